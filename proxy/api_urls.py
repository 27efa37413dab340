"""Below `/api/v1/`: what scripts ask the console's side."""

from django.urls import path

from proxy import explain_api

app_name = "api"
urlpatterns = [path("explain", explain_api.explain, name="explain")]
