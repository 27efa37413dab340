"""Below `/o/<slug:org>/settings/calendar/`: what the settings page shows of budget windows."""

from django.urls import path

from guardrails import calendar_views

app_name = "calendar"
urlpatterns = [path("", calendar_views.preview, name="preview")]
