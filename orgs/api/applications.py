from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, below, one_of, operation
from orgs.api.fields import Body, IdField
from orgs.api.paging import Paging
from orgs.api.people import owner_in
from orgs.lookups import access_application_by_id
from orgs.models import Application
from orgs.permissions import Permission
from orgs.selectors import applications_visible_to, groups_visible_to
from orgs.services.applications import archive_application, change_application, create_application, restore_application

P = Permission


class ApplicationOut(serializers.Serializer[Application]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()
    group_id = serializers.IntegerField()
    features = serializers.ListField(child=serializers.CharField())
    environments = serializers.ListField(child=serializers.CharField())
    cost_center = serializers.CharField()
    owner_id = serializers.IntegerField(allow_null=True)
    archived_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class ApplicationFields(Body):
    name = serializers.CharField(max_length=120)
    features = serializers.ListField(child=serializers.CharField(max_length=60), max_length=500, required=False)
    environments = serializers.ListField(child=serializers.CharField(max_length=30), max_length=100, required=False)
    cost_center = serializers.CharField(max_length=60, allow_blank=True, required=False)
    owner_id = IdField(allow_null=True, required=False)


class NewApplication(ApplicationFields):
    group_id = IdField()


class ChangedApplication(ApplicationFields):
    group_id = IdField(required=False, help_text="Into another group it takes its service keys along.")


class ApplicationsQuery(Paging):
    slug = serializers.CharField(required=False, max_length=60)
    group = IdField(required=False, help_text="Those of this group and below.")


class ApplicationView(OrgApiView):
    resource = "applications"
    writes = (P.MANAGE_APPLICATIONS,)

    def managed(self, application_id: int) -> Application:
        return access_application_by_id(self.actor, application_id, P.MANAGE_APPLICATIONS)


class Applications(ApplicationView):
    @operation("Applications you see", gives=ApplicationOut, many=True, query=ApplicationsQuery)
    def get(self, request: Request, org: str) -> Response:
        found = below(applications_visible_to(self.actor), self.asked.get("group"))
        return self.page(self.narrowed(found, slug="slug"), ApplicationOut)

    @operation("Make an application in a group", takes=NewApplication, gives=ApplicationOut, status=201)
    def post(self, request: Request, org: str) -> Response:
        given = owner_in(self.body(NewApplication), actor=self.actor)
        group = one_of(groups_visible_to(self.actor), given.pop("group_id"))
        return Response(ApplicationOut(create_application(group, by=self.actor, **given)).data, status=201)


class OneApplication(ApplicationView):
    @operation("One application", gives=ApplicationOut)
    def get(self, request: Request, org: str, application_id: int) -> Response:
        return Response(ApplicationOut(one_of(applications_visible_to(self.actor), application_id)).data)

    @operation("Change an application; what is not given stays", takes=ChangedApplication, gives=ApplicationOut)
    def patch(self, request: Request, org: str, application_id: int) -> Response:
        given = owner_in(self.body(ChangedApplication, partial=True), actor=self.actor)
        if "group_id" in given:
            given["group"] = one_of(groups_visible_to(self.actor), given.pop("group_id"))
        return Response(ApplicationOut(change_application(self.managed(application_id), by=self.actor, **given)).data)


class ArchivedApplication(ApplicationView):
    @operation("Archive an application", gives=ApplicationOut)
    def post(self, request: Request, org: str, application_id: int) -> Response:
        return Response(ApplicationOut(archive_application(self.managed(application_id), by=self.actor)).data)


class RestoredApplication(ApplicationView):
    @operation("Bring an archived application back", gives=ApplicationOut)
    def post(self, request: Request, org: str, application_id: int) -> Response:
        return Response(ApplicationOut(restore_application(self.managed(application_id), by=self.actor)).data)
