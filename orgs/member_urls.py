"""Below `/o/<slug:org>/members/`."""

from django.urls import path

from orgs import bulk_views, member_views

app_name = "members"
urlpatterns = [
    path("", member_views.members, name="list"),
    path("bulk/", bulk_views.bulk, name="bulk"),
    path("leave/", member_views.leave, name="leave"),
    path("<int:person_id>/", member_views.member, name="member"),
    path("<int:person_id>/history/", member_views.history, name="history"),
    path("<int:person_id>/grant/", member_views.grant, name="grant"),
    path("grants/<int:grant_id>/end/", member_views.end_grant, name="end_grant"),
    path("memberships/<int:member_id>/suspend/", member_views.suspend, name="suspend"),
    path("memberships/<int:member_id>/resume/", member_views.resume, name="resume"),
    path("memberships/<int:member_id>/move/", member_views.move, name="move"),
    path("memberships/<int:member_id>/remove/", member_views.remove, name="remove"),
]
