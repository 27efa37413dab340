from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.actor import Actor
from orgs.api.base import ApiView, OrgApiView, operation
from orgs.api.fields import Body
from orgs.models import Organization
from orgs.permissions import Permission
from orgs.selectors import organizations_of
from orgs.services.organizations import change_settings, create_organization


class OrganizationOut(serializers.ModelSerializer[Organization]):
    class Meta:
        model = Organization
        fields = (
            *("id", "slug", "name", "kind", "time_zone", "week_start", "fiscal_month", "reset_hour", "attribution_required"),
            *("approval_since", "admit_unguarded", "content_retention_hours", "created_at"),
        )


class NewOrganization(Body):
    name = serializers.CharField(max_length=120)
    time_zone = serializers.CharField(max_length=64, default="UTC")


class ChangedOrganization(Body):
    name = serializers.CharField(max_length=120)
    time_zone = serializers.CharField(max_length=64)
    week_start = serializers.IntegerField(min_value=0, max_value=6)
    fiscal_month = serializers.IntegerField(min_value=1, max_value=12)
    reset_hour = serializers.IntegerField(min_value=0, max_value=23)
    attribution_required = serializers.BooleanField()
    admit_unguarded = serializers.BooleanField()
    approval_since = serializers.DateTimeField(allow_null=True)
    content_retention_hours = serializers.IntegerField(min_value=0, max_value=Organization.MOST_RETENTION_HOURS)


class Grant(serializers.Serializer[Any]):
    name = serializers.CharField(source="label")
    role = serializers.CharField()
    custom_role_id = serializers.IntegerField(allow_null=True)
    group_id = serializers.IntegerField()


class Me(serializers.Serializer[Actor]):
    """Who asks, as the organisation knows them."""

    user_id = serializers.IntegerField(source="user.pk")
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")
    role = serializers.CharField(source="role_label")
    group_ids = serializers.SerializerMethodField()
    grants = Grant(many=True)

    def get_group_ids(self, actor: Actor) -> list[int]:
        return [membership.group_id for membership in actor.memberships]


class Organizations(ApiView):
    resource = "organizations"

    @operation("The organisations you belong to", gives=OrganizationOut, many=True)
    def get(self, request: Request) -> Response:
        return self.page(organizations_of(self.person), OrganizationOut)

    @operation("Make an organisation; you become its Super Admin", takes=NewOrganization, gives=OrganizationOut, status=201)
    def post(self, request: Request) -> Response:
        made = create_organization(owner=self.person, **self.body(NewOrganization))
        return Response(OrganizationOut(made).data, status=201)


class OneOrganization(OrgApiView):
    resource = "organizations"
    writes = (Permission.MANAGE_SETTINGS,)

    @operation("One organisation", gives=OrganizationOut)
    def get(self, request: Request, org: str) -> Response:
        return Response(OrganizationOut(self.actor.organization).data)

    @operation("Change its settings; what is not given stays", takes=ChangedOrganization, gives=OrganizationOut)
    def patch(self, request: Request, org: str) -> Response:
        wanted = self.body(ChangedOrganization, partial=True)
        return Response(OrganizationOut(change_settings(self.actor.organization, by=self.actor, **wanted)).data)


class MeThere(OrgApiView):
    resource = "organizations"

    @operation("What you are in an organisation", gives=Me)
    def get(self, request: Request, org: str) -> Response:
        return Response(Me(self.actor).data)
