"""Roles of the organisation's own, and what is granted to whom, shipped and own ones alike."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.actor import Actor
from orgs.api.base import OrgApiView, below, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.paging import Paging
from orgs.api.people import Person, person_in
from orgs.lookups import access_grant_by_id, access_role_by_id
from orgs.models import Role, RoleGrant
from orgs.permissions import Permission, RoleName
from orgs.powers import AnyRole
from orgs.selectors import grants_visible_to, groups_visible_to, roles_visible_to
from orgs.services.changes import changing
from orgs.services.members import grant_role, revoke_role
from orgs.services.roles import DESCRIPTION_LENGTH, NAME_LENGTH, change_role, create_role, delete_role

P = Permission
PERMISSIONS = [permission.value for permission in Permission]


class RoleOut(serializers.Serializer[RoleGrant]):
    id = serializers.IntegerField()
    user = Person()
    group_id = serializers.IntegerField()
    role = serializers.CharField(help_text="The shipped role, or nothing.")
    custom_role_id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField(source="label", help_text="As people call it.")
    created_at = serializers.DateTimeField()


class NamedRole(Body):
    """One of the shipped roles, or one of the organisation's own."""

    role = serializers.ChoiceField(choices=[role.value for role in RoleName], required=False, allow_null=True)
    custom_role_id = IdField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("role") and attrs.get("custom_role_id"):
            raise serializers.ValidationError({"custom_role_id": "Name one role: a shipped one or your own."})
        return attrs


class RolesQuery(Paging):
    user = IdField(required=False, help_text="The id of a person.")
    group = IdField(required=False, help_text="Those granted at this group and below.")


class NewRole(NamedRole):
    user_id = IdField()
    group_id = IdField()


def role_in(given: dict[str, Any], *, actor: Actor) -> AnyRole | None:
    """Taken out of what a NamedRole holds. Raises Http404 for an own one that the actor does not see."""
    shipped, own = given.pop("role", None), given.pop("custom_role_id", None)
    if own:
        return access_role_by_id(actor, own)
    return RoleName(shipped) if shipped else None


class Roles(OrgApiView):
    resource = "roles"
    writes = (P.GRANT_ROLES,)

    @operation("Roles granted in the groups you see", gives=RoleOut, many=True, query=RolesQuery)
    def get(self, request: Request, org: str) -> Response:
        found = below(grants_visible_to(self.actor), self.asked.get("group"))
        return self.page(self.narrowed(found, user="user"), RoleOut)

    @operation("Grant a role at a group", takes=NewRole, gives=RoleOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.body(NewRole)
        role = role_in(given, actor=self.actor)
        if role is None:
            raise serializers.ValidationError({"role": "Name a role, or custom_role_id."})
        group = one_of(groups_visible_to(self.actor), given["group_id"])
        made = grant_role(person_in(self.actor, given["user_id"]), role=role, group=group, by=self.actor)
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


class CustomRoleOut(serializers.Serializer[Role]):
    """It can be granted at its group and below."""

    id = serializers.IntegerField()
    group_id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    permissions = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class CustomRoleFields(Body):
    name = serializers.CharField(max_length=NAME_LENGTH)
    description = serializers.CharField(max_length=DESCRIPTION_LENGTH, allow_blank=True, required=False)
    permissions = serializers.ListField(child=serializers.ChoiceField(choices=PERMISSIONS), max_length=len(PERMISSIONS))


class NewCustomRole(CustomRoleFields):
    group_id = IdField()


class CustomRoleView(OrgApiView):
    resource = "roles"
    reads = (P.MANAGE_MEMBERS, P.GRANT_ROLES)
    writes = (P.GRANT_ROLES,)

    def fields_in(self, kind: type[CustomRoleFields], *, partial: bool = False) -> dict[str, Any]:
        """With the permissions as the services take them."""
        given = self.body(kind, partial=partial)
        if "permissions" in given:
            given["permissions"] = [Permission(value) for value in given["permissions"]]
        return given


class CustomRoles(CustomRoleView):
    @operation("The organisation's own roles, as far as you see them", gives=CustomRoleOut, many=True)
    def get(self, request: Request, org: str) -> Response:
        return self.page(roles_visible_to(self.actor), CustomRoleOut)

    @operation("Make a role of permissions that you hold yourself", takes=NewCustomRole, gives=CustomRoleOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.fields_in(NewCustomRole)
        group = one_of(groups_visible_to(self.actor), given.pop("group_id"))
        return Response(CustomRoleOut(create_role(group, by=self.actor, **given)).data, status=201)


class OneCustomRole(CustomRoleView):
    @operation("One role of the organisation's own", gives=CustomRoleOut)
    def get(self, request: Request, org: str, custom_role_id: int) -> Response:
        return Response(CustomRoleOut(access_role_by_id(self.actor, custom_role_id)).data)

    @operation("Change a role; it counts for everyone who holds it", takes=CustomRoleFields, gives=CustomRoleOut)
    def patch(self, request: Request, org: str, custom_role_id: int) -> Response:
        given = self.fields_in(CustomRoleFields, partial=True)
        # What stays is read under the lock: nobody's change is written over.
        with changing(self.actor.organization):
            role = access_role_by_id(self.actor, custom_role_id)
            now = {"name": role.name, "description": role.description, "permissions": role.named}
            changed = change_role(role, by=self.actor, **{**now, **given})
        return Response(CustomRoleOut(changed).data)

    @operation("Delete a role that nobody holds", status=204)
    def delete(self, request: Request, org: str, custom_role_id: int) -> Response:
        delete_role(access_role_by_id(self.actor, custom_role_id), by=self.actor)
        return Response(status=204)
