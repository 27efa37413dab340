from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.actor import Actor
from orgs.api.base import ApiView, OrgApiView, operation
from orgs.api.errors import OrganizationsClosed
from orgs.api.fields import Body, MomentField
from orgs.models import Organization
from orgs.permissions import Permission
from orgs.selectors import organizations_of
from orgs.services.organizations import SLUG_LENGTH, change_settings, create_organization, may_create_organization


class OrganizationOut(serializers.ModelSerializer[Organization]):
    class Meta:
        model = Organization
        fields = (
            "id", "slug", "name", "kind", "time_zone", "week_start", "fiscal_month", "reset_hour", "attribution_required",
            *(
                "approval_since",
                "admit_unguarded",
                "content_retention_hours",
                "content_sample_percent",
                "zdr_only",
                "second_factor_required",
            ),
            "created_at",
        )  # fmt: skip


class NewOrganization(Body):
    name = serializers.CharField(max_length=120)
    slug = serializers.CharField(
        max_length=SLUG_LENGTH, required=False, help_text="Its part of every address, which stays; left out: made of the name."
    )
    time_zone = serializers.CharField(max_length=64, default="UTC")


class ChangedOrganization(Body):
    name = serializers.CharField(max_length=120)
    time_zone = serializers.CharField(max_length=64)
    week_start = serializers.IntegerField(min_value=0, max_value=6)
    fiscal_month = serializers.IntegerField(min_value=1, max_value=12)
    reset_hour = serializers.IntegerField(min_value=0, max_value=23)
    attribution_required = serializers.BooleanField()
    admit_unguarded = serializers.BooleanField()
    approval_since = MomentField(
        allow_null=True, help_text="Models first offered after it need an approval; null: none needs one."
    )
    second_factor_required = serializers.BooleanField(
        help_text="Whoever has none is kept out until one is set up; whoever asks for it needs one first."
    )
    content_retention_hours = serializers.IntegerField(min_value=0, max_value=Organization.MOST_RETENTION_HOURS)
    content_sample_percent = serializers.IntegerField(
        min_value=1, max_value=100, help_text="Of so many calls in a hundred, chosen at random, the answer is kept."
    )
    zdr_only = serializers.BooleanField(
        help_text="Calls go only to deployments that promise zero data retention; `content_retention_hours` must be 0."
    )


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
        if not may_create_organization(self.person):
            raise OrganizationsClosed
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
