"""Below `/o/<slug:org>/models/`."""

from django.urls import path

from proxy import catalogue_views

app_name = "catalogue"
urlpatterns = [path("", catalogue_views.models, name="models"), path("one/", catalogue_views.model, name="model")]
