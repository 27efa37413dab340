"""Whether the audit trail in the database is the one that was written: every hash computed again, against the chain's head."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from django.db.models import Max
from django.utils import timezone

from orgs.chain import Fault, Row, faults_in
from orgs.models import AuditCheck, AuditEvent, AuditHead, Organization

# Of a trail that was torn to pieces, the first ones say enough.
MOST_FAULTS = 100
BATCH = 2000


class Verdict(NamedTuple):
    """`head` is "<place>:<hash>" of the last event: noted elsewhere, it can be given to a later verification."""

    chain: int
    name: str
    event_count: int
    head: str
    faults: list[Fault]


def verify_organization(organization: Organization | None, *, noted: tuple[int, str] | None = None) -> Verdict:
    """None: the events of no organisation. What was found is kept for the page of the audit trail."""
    chain = AuditHead.chain_of(organization.pk if organization else None)
    # Events and head are committed together. So read in this order, the head is never behind an event that was chained.
    newest = AuditEvent.objects.filter(organization=organization).aggregate(Max("sequence"))["sequence__max"] or 0
    head = AuditHead.objects.filter(pk=chain).first() or AuditHead(chain=chain)
    rows = _rows(organization, until=max(newest, head.sequence))
    faults = list(islice(faults_in(rows, head=(head.sequence, head.hash), noted=noted), MOST_FAULTS))
    verdict = Verdict(chain, organization.name if organization else "no organisation", head.sequence, str(head), faults)
    _keep(verdict)
    return verdict


def verify_all() -> Iterator[Verdict]:
    """Every organisation's chain, and that of the events of none."""
    yield verify_organization(None)
    for organization in Organization.objects.order_by("pk"):
        yield verify_organization(organization)


def _rows(organization: Organization | None, *, until: int) -> Iterator[Row]:
    events = AuditEvent.objects.filter(organization=organization, sequence__lte=until).order_by("sequence", "pk")
    return (Row(event.sequence, event.hash, event.facts()) for event in events.iterator(BATCH))


def _keep(verdict: Verdict) -> None:
    found = {
        "checked_at": timezone.now(),
        "event_count": verdict.event_count,
        "fault_count": len(verdict.faults),
        "first_fault": verdict.faults[0].words[:200] if verdict.faults else "",
    }
    AuditCheck.objects.update_or_create(chain=verdict.chain, defaults=found)
