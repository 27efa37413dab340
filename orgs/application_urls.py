"""Below `/o/<slug:org>/applications/`."""

from django.urls import path

from orgs import application_views

app_name = "applications"
urlpatterns = [
    path("", application_views.applications, name="list"),
    path("new/", application_views.new, name="new"),
    path("<int:application_id>/", application_views.application, name="application"),
    path("<int:application_id>/edit/", application_views.edit, name="edit"),
    path("<int:application_id>/archive/", application_views.archive, name="archive"),
    path("<int:application_id>/restore/", application_views.restore, name="restore"),
]
