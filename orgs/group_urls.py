"""Below `/o/<slug:org>/groups/`."""

from django.urls import path

from orgs import group_views

app_name = "groups"
urlpatterns = [
    path("", group_views.groups, name="tree"),
    path("new/", group_views.new, name="new"),
    path("<int:group_id>/", group_views.group, name="group"),
    path("<int:group_id>/edit/", group_views.edit, name="edit"),
    path("<int:group_id>/move/", group_views.move, name="move"),
    path("<int:group_id>/archive/", group_views.archive, name="archive"),
    path("<int:group_id>/restore/", group_views.restore, name="restore"),
]
