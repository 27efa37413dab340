"""Below `/api/v1/`."""

from django.urls import path

from orgs.api import applications, audit, groups, invitations, members, organizations, roles

ORG = "organizations/<slug:org>"

app_name = "orgs_api"
urlpatterns = [
    path("organizations", organizations.Organizations.as_view(), name="organizations"),
    path(ORG, organizations.OneOrganization.as_view(), name="organization"),
    path(f"{ORG}/me", organizations.MeThere.as_view(), name="me"),
    path(f"{ORG}/groups", groups.Groups.as_view(), name="groups"),
    path(f"{ORG}/groups/<int:group_id>", groups.OneGroup.as_view(), name="group"),
    path(f"{ORG}/groups/<int:group_id>/move", groups.MovedGroup.as_view(), name="move_group"),
    path(f"{ORG}/groups/<int:group_id>/archive", groups.ArchivedGroup.as_view(), name="archive_group"),
    path(f"{ORG}/groups/<int:group_id>/restore", groups.RestoredGroup.as_view(), name="restore_group"),
    path(f"{ORG}/members", members.Members.as_view(), name="members"),
    path(f"{ORG}/members/<int:member_id>", members.OneMember.as_view(), name="member"),
    path(f"{ORG}/members/<int:member_id>/move", members.MovedMember.as_view(), name="move_member"),
    path(f"{ORG}/members/<int:member_id>/suspend", members.SuspendedMember.as_view(), name="suspend_member"),
    path(f"{ORG}/members/<int:member_id>/resume", members.ResumedMember.as_view(), name="resume_member"),
    path(f"{ORG}/invitations", invitations.Invitations.as_view(), name="invitations"),
    path(f"{ORG}/invitations/<int:invitation_id>", invitations.OneInvitation.as_view(), name="invitation"),
    path(f"{ORG}/invitations/<int:invitation_id>/revoke", invitations.RevokedInvitation.as_view(), name="revoke_invitation"),
    path(f"{ORG}/roles", roles.Roles.as_view(), name="roles"),
    path(f"{ORG}/roles/<int:role_id>", roles.OneRole.as_view(), name="role"),
    path(f"{ORG}/custom-roles", roles.CustomRoles.as_view(), name="custom_roles"),
    path(f"{ORG}/custom-roles/<int:custom_role_id>", roles.OneCustomRole.as_view(), name="custom_role"),
    path(f"{ORG}/applications", applications.Applications.as_view(), name="applications"),
    path(f"{ORG}/applications/<int:application_id>", applications.OneApplication.as_view(), name="application"),
    path(
        f"{ORG}/applications/<int:application_id>/archive", applications.ArchivedApplication.as_view(), name="archive_application"
    ),
    path(
        f"{ORG}/applications/<int:application_id>/restore", applications.RestoredApplication.as_view(), name="restore_application"
    ),
    path(f"{ORG}/audit-events", audit.Events.as_view(), name="events"),
    path(f"{ORG}/audit-events/<int:sequence>", audit.OneEvent.as_view(), name="event"),
]
