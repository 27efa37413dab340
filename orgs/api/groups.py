from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.paging import Paging
from orgs.api.people import owner_in
from orgs.lookups import access_group_by_id
from orgs.models import Group
from orgs.permissions import Permission
from orgs.selectors import groups_visible_to
from orgs.services.groups import archive_group, change_group, create_group, restore_group
from orgs.services.moves import move_group

P = Permission


class GroupOut(serializers.Serializer[Group]):
    id = serializers.IntegerField()
    parent_id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField()
    kind = serializers.CharField(help_text="A free label: division, department, project …")
    level = serializers.IntegerField(help_text="0 is the root.")
    cost_center = serializers.CharField()
    owner_id = serializers.IntegerField(allow_null=True)
    archived_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class GroupFields(Body):
    name = serializers.CharField(max_length=120)
    kind = serializers.CharField(max_length=40, allow_blank=True, required=False)
    cost_center = serializers.CharField(max_length=60, allow_blank=True, required=False)
    owner_id = IdField(allow_null=True, required=False)


class NewGroup(GroupFields):
    parent_id = IdField()


class GroupMovedTo(Body):
    parent_id = IdField()


class GroupsQuery(Paging):
    parent_id = IdField(required=False, help_text="Those directly below this group.")
    name = serializers.CharField(required=False, max_length=120, help_text="Exactly.")


class GroupView(OrgApiView):
    resource = "groups"
    writes = (P.MANAGE_GROUPS,)

    def changed(self, group_id: int) -> Group:
        return access_group_by_id(self.actor, group_id, P.MANAGE_GROUPS)

    def fields_of(self, kind: type[Body], *, partial: bool = False) -> dict[str, Any]:
        return owner_in(self.body(kind, partial=partial), actor=self.actor)


class Groups(GroupView):
    @operation("Groups you see", gives=GroupOut, many=True, query=GroupsQuery)
    def get(self, request: Request, org: str) -> Response:
        return self.page(self.narrowed(groups_visible_to(self.actor), parent_id="parent", name="name"), GroupOut)

    @operation("Make a group below another", takes=NewGroup, gives=GroupOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = self.fields_of(NewGroup)
        parent = one_of(groups_visible_to(self.actor), given.pop("parent_id"))
        return Response(GroupOut(create_group(parent, by=self.actor, **given)).data, status=201)


class OneGroup(GroupView):
    @operation("One group", gives=GroupOut)
    def get(self, request: Request, org: str, group_id: int) -> Response:
        return Response(GroupOut(one_of(groups_visible_to(self.actor), group_id)).data)

    @operation("Change a group; what is not given stays", takes=GroupFields, gives=GroupOut)
    def patch(self, request: Request, org: str, group_id: int) -> Response:
        wanted = self.fields_of(GroupFields, partial=True)
        return Response(GroupOut(change_group(self.changed(group_id), by=self.actor, **wanted)).data)


class MovedGroup(GroupView):
    @operation("Move a group below another", takes=GroupMovedTo, gives=GroupOut)
    def post(self, request: Request, org: str, group_id: int) -> Response:
        to = one_of(groups_visible_to(self.actor), self.body(GroupMovedTo)["parent_id"])
        return Response(GroupOut(move_group(self.changed(group_id), to=to, by=self.actor)).data)


class ArchivedGroup(GroupView):
    @operation("Archive a group: its keys and those below stop", gives=GroupOut)
    def post(self, request: Request, org: str, group_id: int) -> Response:
        return Response(GroupOut(archive_group(self.changed(group_id), by=self.actor)).data)


class RestoredGroup(GroupView):
    @operation("Bring an archived group back", gives=GroupOut)
    def post(self, request: Request, org: str, group_id: int) -> Response:
        return Response(GroupOut(restore_group(self.changed(group_id), by=self.actor)).data)
