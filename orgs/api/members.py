from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, below, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.paging import Paging
from orgs.api.people import Person, person_in
from orgs.lookups import access_member_by_id
from orgs.models import Membership
from orgs.permissions import Permission
from orgs.selectors import groups_visible_to, members_visible_to
from orgs.services.departures import move_member, remove_member
from orgs.services.members import add_member, resume_member, suspend_member

P = Permission


class MemberOut(serializers.Serializer[Membership]):
    """A membership: one person at one group."""

    id = serializers.IntegerField()
    user = Person()
    group_id = serializers.IntegerField()
    suspended_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class NewMember(Body):
    """Somebody who belongs to the organisation already, at one more group."""

    user_id = IdField()
    group_id = IdField()


class MemberMovedTo(Body):
    group_id = IdField()
    keep_roles = serializers.BooleanField(default=False, help_text="Otherwise roles at the old group and below end.")


class MembersQuery(Paging):
    email = serializers.CharField(required=False, max_length=254)
    user = IdField(required=False, help_text="The id of a person.")
    group = IdField(required=False, help_text="Those at this group and below.")


class MemberView(OrgApiView):
    resource = "members"
    writes = (P.MANAGE_MEMBERS,)

    def managed(self, member_id: int) -> Membership:
        return access_member_by_id(self.actor, member_id, P.MANAGE_MEMBERS)


class Members(MemberView):
    @operation("Members you see", gives=MemberOut, many=True, query=MembersQuery)
    def get(self, request: Request, org: str) -> Response:
        found = below(members_visible_to(self.actor), self.asked.get("group"))
        return self.page(self.narrowed(found, email="user__email__iexact", user="user"), MemberOut)

    @operation("Make a member a member of another group, too", takes=NewMember, gives=MemberOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.body(NewMember)
        group = one_of(groups_visible_to(self.actor), given["group_id"])
        made = add_member(person_in(self.actor, given["user_id"]), group=group, by=self.actor)
        return Response(MemberOut(made).data, status=201)


class OneMember(MemberView):
    @operation("One membership", gives=MemberOut)
    def get(self, request: Request, org: str, member_id: int) -> Response:
        return Response(MemberOut(access_member_by_id(self.actor, member_id, P.VIEW_USAGE)).data)

    @operation("End a membership: the person's roles and keys there end with it", status=204)
    def delete(self, request: Request, org: str, member_id: int) -> Response:
        remove_member(self.managed(member_id), by=self.actor)
        return Response(status=204)


class MovedMember(MemberView):
    @operation("Move a membership to another group, with the person's keys", takes=MemberMovedTo, gives=MemberOut)
    def post(self, request: Request, org: str, member_id: int) -> Response:
        given, found = self.body(MemberMovedTo), self.managed(member_id)
        group = one_of(groups_visible_to(self.actor), given.pop("group_id"))
        return Response(MemberOut(move_member(found, group=group, by=self.actor, **given)).data)


class SuspendedMember(MemberView):
    @operation("Suspend a membership: the person's keys there stop", gives=MemberOut)
    def post(self, request: Request, org: str, member_id: int) -> Response:
        return Response(MemberOut(suspend_member(self.managed(member_id), by=self.actor)).data)


class ResumedMember(MemberView):
    @operation("Bring a suspended membership back", gives=MemberOut)
    def post(self, request: Request, org: str, member_id: int) -> Response:
        return Response(MemberOut(resume_member(self.managed(member_id), by=self.actor)).data)
