from django.urls import path

from orgs import organization_views, viewing_views, views

app_name = "orgs"
urlpatterns = [
    path("", views.home, name="home"),
    path("organizations/new/", organization_views.new, name="new_organization"),
    path("switch/<slug:org>/", views.switch, name="switch"),
    path("view-as/end/", viewing_views.end, name="view_as_end"),
    path("o/<slug:org>/view-as/", viewing_views.choose, name="view_as"),
    path("o/<slug:org>/view-as/<int:member_id>/", viewing_views.start, name="view_as_start"),
    path("o/<slug:org>/settings/", views.settings, name="settings"),
    path("o/<slug:org>/settings/approval/", views.approval_reach, name="approval_reach"),
]
