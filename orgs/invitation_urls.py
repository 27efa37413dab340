"""Below `/o/<slug:org>/invitations/`."""

from django.urls import path

from orgs import invitation_views

app_name = "invitations"
urlpatterns = [
    path("", invitation_views.invitations, name="list"),
    path("link/", invitation_views.new_link, name="new_link"),
    path("mail/", invitation_views.by_mail, name="by_mail"),
    path("file/", invitation_views.upload, name="upload"),
    path("file/template/", invitation_views.template, name="template"),
    path("file/<int:import_id>/", invitation_views.listed, name="import"),
    path("file/<int:import_id>/progress/", invitation_views.progress, name="progress"),
    path("<int:invitation_id>/link/", invitation_views.link, name="link"),
    path("<int:invitation_id>/send/", invitation_views.send, name="send"),
    path("<int:invitation_id>/revoke/", invitation_views.revoke, name="revoke"),
]
