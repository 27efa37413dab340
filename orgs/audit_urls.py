"""Below `/o/<slug:org>/audit/`."""

from django.urls import path

from orgs import audit_views

app_name = "audit"
urlpatterns = [
    path("", audit_views.trail, name="list"),
    path("export/", audit_views.export, name="export"),
    path("verify/", audit_views.verify, name="verify"),
    path("<int:sequence>/", audit_views.event, name="event"),
]
