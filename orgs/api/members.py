from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.people import person_in
from orgs.lookups import access_grant_by_id, access_member_by_id
from orgs.models import Membership, RoleGrant
from orgs.permissions import Permission, RoleName
from orgs.selectors import grants_visible_to, groups_visible_to, members_visible_to
from orgs.services.members import add_member, grant_role, resume_member, revoke_role, suspend_member

P = Permission


class Person(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    email = serializers.EmailField()
    name = serializers.CharField()


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


class RoleOut(serializers.Serializer[RoleGrant]):
    id = serializers.IntegerField()
    user = Person()
    group_id = serializers.IntegerField()
    role = serializers.CharField(help_text="The shipped role, or nothing.")
    custom_role_id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField(source="label", help_text="As people call it.")
    created_at = serializers.DateTimeField()


class NewRole(Body):
    user_id = IdField()
    group_id = IdField()
    role = serializers.ChoiceField(choices=[role.value for role in RoleName])


class MemberView(OrgApiView):
    resource = "members"
    writes = (P.MANAGE_MEMBERS,)


class Members(MemberView):
    @operation("Members you see", gives=MemberOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(members_visible_to(self.actor), MemberOut)

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


class SuspendedMember(MemberView):
    @operation("Suspend a membership: the person's keys there stop", gives=MemberOut)
    def post(self, request: Request, org: str, member_id: int) -> Response:
        found = access_member_by_id(self.actor, member_id, P.MANAGE_MEMBERS)
        return Response(MemberOut(suspend_member(found, by=self.actor)).data)


class ResumedMember(MemberView):
    @operation("Bring a suspended membership back", gives=MemberOut)
    def post(self, request: Request, org: str, member_id: int) -> Response:
        found = access_member_by_id(self.actor, member_id, P.MANAGE_MEMBERS)
        return Response(MemberOut(resume_member(found, by=self.actor)).data)


class Roles(OrgApiView):
    resource = "roles"
    writes = (P.GRANT_ROLES,)

    @operation("Roles granted in the groups you see", gives=RoleOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(grants_visible_to(self.actor), RoleOut)

    @operation("Grant a role at a group", takes=NewRole, gives=RoleOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.body(NewRole)
        group = one_of(groups_visible_to(self.actor), given["group_id"])
        person = person_in(self.actor, given["user_id"])
        made = grant_role(person, role=RoleName(given["role"]), group=group, by=self.actor)
        return Response(RoleOut(made).data, status=201)


class OneRole(OrgApiView):
    resource = "roles"
    writes = (P.GRANT_ROLES,)

    @operation("One granted role", gives=RoleOut)
    def get(self, request: Request, org: str, role_id: int) -> Response:
        return Response(RoleOut(one_of(grants_visible_to(self.actor), role_id)).data)

    @operation("End a granted role", status=204)
    def delete(self, request: Request, org: str, role_id: int) -> Response:
        revoke_role(access_grant_by_id(self.actor, role_id), by=self.actor)
        return Response(status=204)
