"""Below `/o/<slug:org>/roles/`."""

from django.urls import path

from orgs import role_views

app_name = "roles"
urlpatterns = [
    path("", role_views.roles, name="list"),
    path("new/", role_views.new_role, name="new"),
    path("<int:role_id>/edit/", role_views.edit, name="edit"),
    path("<int:role_id>/copy/", role_views.copy, name="copy"),
    path("<int:role_id>/delete/", role_views.delete, name="delete"),
]
