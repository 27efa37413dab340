from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import IdField, MomentField
from orgs.api.roles import NamedRole, role_in
from orgs.invitation_mail import accept_url, queue
from orgs.invitation_pages import access_invitation_by_id, invitations_visible_to
from orgs.models import Invitation
from orgs.permissions import Permission
from orgs.selectors import groups_visible_to
from orgs.services.invitations import MOST_USES, invite, link_token, revoke_invitation

P = Permission


class InvitationOut(serializers.Serializer[Invitation]):
    """Without its link: the answer that makes it holds it, later the console shows it, and writes down who read it."""

    id = serializers.IntegerField()
    group_id = serializers.IntegerField()
    role = serializers.CharField(help_text="The shipped role, or nothing.")
    custom_role_id = serializers.IntegerField(allow_null=True)
    email = serializers.CharField()
    name = serializers.CharField()
    status = serializers.CharField()
    max_uses = serializers.IntegerField(allow_null=True)
    uses = serializers.IntegerField()
    expires_at = serializers.DateTimeField()
    created_at = serializers.DateTimeField()


class InvitationWithLink(serializers.Serializer[Any]):
    """The only answer that ever holds the link."""

    invitation = InvitationOut()
    link = serializers.CharField(allow_null=True, help_text="null: this repeats an answer that held it.")


class NewInvitation(NamedRole):
    group_id = IdField()
    email = serializers.EmailField(max_length=254, required=False, allow_blank=True)
    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    max_uses = serializers.IntegerField(min_value=1, max_value=MOST_USES, required=False, allow_null=True)
    expires_at = MomentField(required=False, help_text="Left out: in a week.")
    send = serializers.BooleanField(default=False, help_text="Whether a mail goes to `email`.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["send"] and not attrs.get("email"):
            raise serializers.ValidationError({"email": "A mail needs an address."})
        return super().validate(attrs)


class InvitationView(OrgApiView):
    resource = "invites"
    reads = writes = (P.MANAGE_MEMBERS,)


class Invitations(InvitationView):
    @operation("Invitations you manage", gives=InvitationOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(invitations_visible_to(self.actor), InvitationOut)

    @operation(
        "Invite to a group; the link is given here once", takes=NewInvitation, gives=InvitationWithLink, status=201, once="link"
    )
    def post(self, request: Request, org: str) -> Response:
        given = self.body(NewInvitation)
        group, send = one_of(groups_visible_to(self.actor), given.pop("group_id")), given.pop("send")
        role = role_in(given, actor=self.actor)
        if role is not None:  # which is granting it, to whoever accepts
            self.require_scope("roles")
        made = invite(group, role=role, by=self.actor, **given)
        if send:
            queue([made])
        return Response(InvitationWithLink({"invitation": made, "link": accept_url(link_token(made))}).data, status=201)


class OneInvitation(InvitationView):
    @operation("One invitation", gives=InvitationOut)
    def get(self, request: Request, org: str, invitation_id: int) -> Response:
        return Response(InvitationOut(access_invitation_by_id(self.actor, invitation_id)).data)


class RevokedInvitation(InvitationView):
    @operation("Take an invitation back", gives=InvitationOut)
    def post(self, request: Request, org: str, invitation_id: int) -> Response:
        found = access_invitation_by_id(self.actor, invitation_id)
        return Response(InvitationOut(revoke_invitation(found, by=self.actor)).data)
