"""The audit trail as a file: CSV for people, JSON Lines for whoever verifies the chain elsewhere. Streamed, a batch at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Callable, Iterator
from io import StringIO
from typing import NamedTuple

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from orgs.audit_words import action_words
from orgs.models import AuditEvent

BATCH = 500
COLUMNS = (
    "sequence", "at", "actor", "actor_email", "action", "action_words", "object_type", "object_id", "object_label",
    "group", "ip", "agent", "before", "after", "hash",
)  # fmt: skip
# How a cell begins that a spreadsheet takes for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


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
    return _csv([_harmless(cells[name]) for name in COLUMNS])


def json_line(event: AuditEvent) -> str:
    """The facts exactly as they are hashed, and the hash."""
    return json.dumps({"facts": event.facts(), "hash": event.hash}, sort_keys=True) + "\n"


def _harmless(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _csv(cells: list[str] | tuple[str, ...]) -> str:
    buffer = StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()


FORMATS = {
    "csv": Format("text/csv; charset=utf-8", _csv(COLUMNS), csv_line),
    "jsonl": Format("application/x-ndjson", "", json_line),
}


def streamed(events: QuerySet[AuditEvent], *, form: str, name: str, request: HttpRequest) -> StreamingHttpResponse:
    """Oldest first, as a chain is read. No row is held beyond its batch."""
    parts = _parts(events, FORMATS[form])
    content = _awaited(parts) if isinstance(request, ASGIRequest) else parts
    answer = StreamingHttpResponse(content, content_type=FORMATS[form].content_type)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    return answer


def _parts(events: QuerySet[AuditEvent], form: Format) -> Iterator[str]:
    """By places, not by a cursor: a reader who is slow must not hold a transaction open."""
    if form.head:
        yield form.head
    place = 0
    while batch := list(events.filter(sequence__gt=place).order_by("sequence")[:BATCH]):
        yield "".join(form.line(event) for event in batch)
        place = batch[-1].sequence


async def _awaited(parts: Iterator[str]) -> AsyncIterator[str]:
    following = sync_to_async(lambda: next(parts, None))
    while (part := await following()) is not None:
        yield part
