from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orgs.api.base import OrgApiView, operation
from orgs.api.fields import IdField, MomentField
from orgs.api.paging import Paging
from orgs.audit_selectors import PERIODS, TEXT_LENGTH, Filters, access_event_by_place, events_visible_to, matching
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


class EventsQuery(Paging):
    period = serializers.ChoiceField(choices=list(PERIODS), default="all", help_text="Up to now.")
    since = MomentField(required=False)
    until = MomentField(required=False, help_text="Events before it.")
    actor = IdField(required=False, help_text="The id of a person.")
    action = serializers.CharField(required=False, max_length=TEXT_LENGTH, help_text="`key.created`")
    target = serializers.CharField(required=False, max_length=TEXT_LENGTH, help_text="`<object type>:<object id>`")
    q = serializers.CharField(required=False, max_length=TEXT_LENGTH, help_text="Any part of names, addresses and agents.")


class Events(OrgApiView):
    resource = "audit"
    reads = (Permission.VIEW_AUDIT,)

    @operation("Audit events you may read", gives=EventOut, many=True, query=EventsQuery)
    def get(self, request: Request, org: str) -> Response:
        filters = Filters(**{name: self.asked[name] for name in Filters._fields if name in self.asked})
        found = matching(events_visible_to(self.actor), filters, now=timezone.now())
        return self.page(self.narrowed(found, since="at__gte", until="at__lt"), EventOut, key="sequence")


class OneEvent(OrgApiView):
    resource = "audit"
    reads = (Permission.VIEW_AUDIT,)

    @operation("One audit event, by its place in the chain", gives=EventOut)
    def get(self, request: Request, org: str, sequence: int) -> Response:
        return Response(EventOut(access_event_by_place(self.actor, sequence)).data)
