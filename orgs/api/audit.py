from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, operation
from orgs.audit_selectors import PERIODS, Filters, access_event_by_place, events_visible_to, matching
from orgs.models import AuditEvent
from orgs.permissions import Permission


class EventFacts(serializers.Serializer[Any]):
    """Exactly what the hash of an event is of."""

    organization = serializers.IntegerField()
    sequence = serializers.IntegerField()
    at = serializers.CharField(help_text="UTC, to the microsecond.")
    actor = serializers.IntegerField(allow_null=True)
    action = serializers.CharField()
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    object_label = serializers.CharField()
    group = serializers.IntegerField(allow_null=True)
    before = serializers.DictField()
    after = serializers.DictField()
    ip = serializers.CharField(allow_null=True)
    agent = serializers.CharField()


class EventOut(serializers.Serializer[AuditEvent]):
    facts = serializers.SerializerMethodField()
    actor_name = serializers.SerializerMethodField()
    hash = serializers.CharField()

    @extend_schema_field(EventFacts)
    def get_facts(self, event: AuditEvent) -> dict[str, Any]:
        return event.facts()

    @extend_schema_field({"type": ["string", "null"]})
    def get_actor_name(self, event: AuditEvent) -> str | None:
        return str(event.actor) if event.actor else None


FILTERS = [
    OpenApiParameter("period", OpenApiTypes.STR, enum=list(PERIODS)),
    OpenApiParameter("actor", OpenApiTypes.INT, description="The id of a person."),
    OpenApiParameter("action", OpenApiTypes.STR),
    OpenApiParameter("target", OpenApiTypes.STR, description="`<object type>:<object id>`"),
    OpenApiParameter("q", OpenApiTypes.STR, description="Any part of names, addresses and agents."),
]


class Events(OrgApiView):
    resource = "audit"
    reads = (Permission.VIEW_AUDIT,)

    @operation("Audit events you may read", gives=EventOut, many=True, query=FILTERS)
    def get(self, request: Request, org: str) -> Response:
        found = matching(events_visible_to(self.actor), Filters.of(request.GET), now=timezone.now())
        return self.page(found, EventOut, key="sequence")


class OneEvent(OrgApiView):
    resource = "audit"
    reads = (Permission.VIEW_AUDIT,)

    @operation("One audit event, by its place in the chain", gives=EventOut)
    def get(self, request: Request, org: str, sequence: int) -> Response:
        return Response(EventOut(access_event_by_place(self.actor, sequence)).data)
