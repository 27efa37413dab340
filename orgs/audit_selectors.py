"""What may be read of the audit trail, and what the URL of its page asks for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q, QuerySet
from django.http import Http404, QueryDict

from gateway_project.lib import keyset
from gateway_project.lib.queries import id_in, search_in
from gateway_project.lib.rows import sole
from orgs.actor import Actor
from orgs.models import AuditCheck, AuditEvent, AuditHead, Group, Organization
from orgs.permissions import Permission
from orgs.selectors import within

PAGE_SIZE = 50
PERIODS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90, "all": None}
DEFAULT_PERIOD = "30d"
# Pairs of an action and who did it, from which the filters offer both.
MOST_OFFERED = 1000
TEXT_LENGTH = 100


class Filters(NamedTuple):
    """What makes no sense is left out. `target` is "<object type>:<object id>"."""

    period: str = DEFAULT_PERIOD
    actor: int | None = None
    action: str = ""
    target: str = ""
    q: str = ""

    @classmethod
    def of(cls, query: QueryDict) -> Filters:
        period = query.get("period", "")
        words = {name: search_in(query.get(name), TEXT_LENGTH) for name in ("action", "target", "q")}
        return cls(period if period in PERIODS else DEFAULT_PERIOD, id_in(query.get("actor")), **words)

    @property
    def narrows(self) -> bool:
        return any((self.actor is not None, self.action, self.target, self.q))

    def since(self, now: datetime) -> datetime | None:
        days = PERIODS[self.period]
        return now - timedelta(days=days) if days else None


class Page(NamedTuple):
    """`older` and `newer` are the places to go on from; None where the list ends."""

    events: list[AuditEvent]
    older: int | None
    newer: int | None


def events_visible_to(actor: Actor) -> QuerySet[AuditEvent]:
    """About the nodes where it may read the trail and what lies below them today, and its own acts; at the root everything."""
    events = AuditEvent.objects.filter(organization=actor.organization)
    if not actor.can_everywhere(Permission.VIEW_AUDIT):
        groups = Group.objects.filter(within(actor.scope(Permission.VIEW_AUDIT)), organization=actor.organization)
        events = events.filter(Q(group__in=groups.values("pk")) | Q(actor=actor.user))
    return events.select_related("actor", "group")


def matching(events: QuerySet[AuditEvent], filters: Filters, *, now: datetime) -> QuerySet[AuditEvent]:
    since = filters.since(now)
    events = events.filter(at__gte=since) if since else events
    if filters.actor is not None:
        events = events.filter(actor=filters.actor)
    if filters.action:
        events = events.filter(action=filters.action)
    if filters.target:
        kind, _, named = filters.target.partition(":")
        events = events.filter(object_type=kind, object_id=named)
    return events.filter(_saying(filters.q)) if filters.q else events


def _saying(text: str) -> Q:
    plain = Q(object_label__icontains=text) | Q(action__icontains=text.replace(" ", "_")) | Q(agent__icontains=text)
    return plain | Q(actor__email__icontains=text) | Q(actor__name__icontains=text) | Q(object_id=text) | Q(ip__startswith=text)


def page_of(events: QuerySet[AuditEvent], *, before: int | None, after: int | None, size: int = PAGE_SIZE) -> Page:
    """By places in the chain."""
    return Page(*keyset.page_of(events, before=before, after=after, size=size, key="sequence"))


def access_event_by_place(actor: Actor, sequence: int) -> AuditEvent:
    """Raises Http404."""
    event = sole(events_visible_to(actor).filter(sequence=sequence))
    if event is None:
        raise Http404("no such event")
    return event


def offered_in(events: QuerySet[AuditEvent]) -> tuple[list[str], dict[int, str]]:
    """The actions that occur in these, and the people who acted: by their ids, with their names."""
    rows = events.order_by("action").values_list("action", "actor", "actor__name", "actor__email").distinct()
    found = list(rows[:MOST_OFFERED])
    people = {pk: name or email for _, pk, name, email in found if pk is not None}
    return list(dict.fromkeys(action for action, *_ in found)), dict(sorted(people.items(), key=lambda one: one[1].lower()))


def check_of(organization: Organization) -> tuple[AuditCheck | None, int]:
    """The latest verification, and how many events the chain has."""
    head = AuditHead.objects.filter(pk=organization.pk).first()
    return AuditCheck.objects.filter(pk=organization.pk).first(), head.sequence if head else 0
