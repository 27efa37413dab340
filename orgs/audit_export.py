"""The audit trail as a file: CSV for people, JSON Lines for whoever verifies the chain elsewhere. Streamed, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from gateway_project.lib import exports
from orgs.audit_words import action_words
from orgs.models import AuditEvent

BATCH = 500
COLUMNS = (
    "sequence", "at", "actor", "actor_email", "action", "action_words", "object_type", "object_id", "object_label",
    "group", "ip", "agent", "before", "after", "hash",
)  # fmt: skip


class Format(NamedTuple):
    content_type: str
    head: str
    line: Callable[[AuditEvent], str]


def csv_line(event: AuditEvent) -> str:
    facts = event.facts()
    actor = event.actor
    cells = {
        **facts,
        "actor": str(actor or ""),
        "actor_email": actor.email if actor else "",
        "action_words": action_words(event.action),
        "group": str(event.group or ""),
        "before": json.dumps(event.before, ensure_ascii=False),
        "after": json.dumps(event.after, ensure_ascii=False),
        "hash": event.hash,
    }
    return exports.csv_lines([[exports.harmless(cells[name]) for name in COLUMNS]])


def json_line(event: AuditEvent) -> str:
    """The facts exactly as they are hashed, and the hash."""
    return json.dumps({"facts": event.facts(), "hash": event.hash}, sort_keys=True) + "\n"


FORMATS = {
    "csv": Format("text/csv; charset=utf-8", exports.csv_lines([COLUMNS]), csv_line),
    "jsonl": Format("application/x-ndjson", "", json_line),
}


def streamed(events: QuerySet[AuditEvent], *, form: str, name: str, request: HttpRequest) -> StreamingHttpResponse:
    """Oldest first, as a chain is read. No row is held beyond its batch."""
    parts, content_type = _parts(events, FORMATS[form]), FORMATS[form].content_type
    return exports.streamed(parts, content_type=content_type, name=f"{name}.{form}", request=request)


def _parts(events: QuerySet[AuditEvent], form: Format) -> Iterator[str]:
    """By places, not by a cursor: a reader who is slow must not hold a transaction open."""
    if form.head:
        yield form.head
    place = 0
    while batch := list(events.filter(sequence__gt=place).order_by("sequence")[:BATCH]):
        yield "".join(form.line(event) for event in batch)
        place = batch[-1].sequence
