"""Below `/o/<slug:org>/settings/zdr/`: what the settings page shows of zero data retention."""

from django.urls import path

from proxy import zdr_views

app_name = "zdr"
urlpatterns = [path("", zdr_views.reach, name="reach")]
