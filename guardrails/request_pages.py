"""What the requests page shows: each request with what the viewer may do about it, and the models that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from guardrails.models import Request
from guardrails.new_models import NewModel
from guardrails.requests import approved_at, approved_everywhere
from orgs.actor import Actor
from orgs.models import Group
from orgs.permissions import Permission

TONES = {"open": "info", "approved": "ok", "declined": "bad", "withdrawn": "muted"}


class RequestRow(NamedTuple):
    request: Request
    path: str
    tone: str
    is_own: bool
    may_decide: bool
    may_revoke: bool
    may_withdraw: bool


class ModelRow(NamedTuple):
    """`waiting`: how many of the requests that the viewer sees are open. `everywhere`: nobody needs to ask any more.
    `for_own`: nor does the viewer, for any group it makes keys in."""

    name: str
    first_offered_at: datetime
    approved_for: list[str]
    waiting: int
    everywhere: bool
    for_own: bool


def request_rows(found: Iterable[Request], *, actor: Actor) -> list[RequestRow]:
    return [_row(request, actor=actor) for request in found]


def model_rows(
    models: Iterable[NewModel], approvals: Mapping[str, list[Request]], rows: Sequence[RequestRow], *, homes: Collection[Group]
) -> list[ModelRow]:
    """`homes`: where the viewer asks for, with their paths; none for who approves."""
    waiting = Counter(row.request.model for row in rows if row.request.status == Request.Status.OPEN)
    return [
        ModelRow(
            name=one.name,
            first_offered_at=one.first_offered_at,
            approved_for=[found.group.name for found in approvals.get(one.name, [])],
            waiting=waiting[one.name],
            everywhere=approved_everywhere(one.name, approvals),
            for_own=approved_at(one.name, homes, approvals),
        )
        for one in models
    ]


def _row(request: Request, *, actor: Actor) -> RequestRow:
    manages = actor.can(Permission.MANAGE_GUARDRAILS, request.group)
    is_own, is_open = request.requested_by_id == actor.user.pk, request.status == Request.Status.OPEN
    return RequestRow(
        request=request,
        path=" / ".join(group.name for group in request.group.path()),
        tone=TONES[request.status],
        is_own=is_own,
        may_decide=manages and is_open,
        may_revoke=manages and request.status == Request.Status.APPROVED,
        may_withdraw=is_own and is_open,
    )
