"""Below `/o/<slug:org>/security/provisioning/`."""

from django.urls import path

from orgs import provisioning_views as views

app_name = "provisioning"
urlpatterns = [
    path("", views.page, name="page"),
    path("token/", views.token, name="token"),
    path("token/revoke/", views.revoke, name="revoke"),
    path("group/", views.default_group, name="default_group"),
    path("groups/<int:directory_group_id>/", views.link, name="link"),
]
