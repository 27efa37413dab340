"""Policies, bindings, overrides and approvals in PostgreSQL → the `Limits` of one key at one moment.

A policy applies where it is bound: to a node, a member, a key, an application. One bound to a group with the reach
`members` or `keys` is a default: it goes to each member or key below that has no policy of its own (one that somebody
bound to it; the limits people set on a key's own page are not meant), from the nearest group that has a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from gateway_project.lib import database
from guardrails import windows
from guardrails.limits import ORGANIZATION, POOL, Kind, Limit, Limits, Subject, path_subjects
from guardrails.rules import DEFAULT_CLAMP_LEAST_TOKENS, Approval, Rule, Rules
from guardrails.rules import Kind as RuleKind
from orgs.access import Principal

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# Limits that no call is judged by: they bound what may be made in the console.
OF_THE_CONSOLE = ("keys", "seats")


class BoundLimit(msgspec.Struct, frozen=True):
    id: int
    kind: Kind | Literal["keys", "seats"]
    window: windows.Kind | Literal["minute", "now", "call"]
    value: int
    counts_byok: bool = False


class BoundRule(msgspec.Struct, frozen=True):
    kind: RuleKind
    entries: tuple[str, ...]


class Bound(msgspec.Struct, frozen=True):
    """One binding with its policy, as BOUND_SQL gives it."""

    group_id: int | None
    member_id: int | None
    api_key_id: int | None
    application_id: int | None
    reach: str
    policy: str
    dedicated: bool
    limits: tuple[BoundLimit, ...]
    rules: tuple[BoundRule, ...]
    clamp: bool | None = None
    clamp_least_tokens: int | None = None
    observed_holds: bool | None = None
    degrade_percent: int | None = None
    degrade_model: str = ""


class Override(msgspec.Struct, frozen=True):
    """One override of a limit, for one subject; it lasts from `starts_at` until `until`."""

    limit_id: int
    subject: str
    kind: str
    amount: int
    starts_at: datetime
    until: datetime | None

    def forgives_before(self, window_starts_at: datetime | None) -> bool:
        """Whether it is a reset of a window that is over: the calendar has changed since."""
        return self.kind == "reset" and window_starts_at is not None and self.starts_at < window_starts_at


BOUND_SQL = """
SELECT b.group_id, b.member_id, b.api_key_id, b.application_id, b.reach,
       p.name AS policy, p.dedicated, p.clamp, p.clamp_least_tokens, p.observed_holds, p.degrade_percent, p.degrade_model,
       coalesce((
           SELECT json_agg(json_build_object(
               'id', l.id, 'kind', l.kind, 'window', l."window", 'value', l.value, 'counts_byok', l.counts_byok
           ) ORDER BY l.id)
           FROM guardrails_limit l WHERE l.policy_id = p.id
       ), '[]'::json) AS limits,
       coalesce((
           SELECT json_agg(json_build_object('kind', r.kind, 'entries', r.entries) ORDER BY r.id)
           FROM guardrails_rule r WHERE r.policy_id = p.id
       ), '[]'::json) AS rules
FROM guardrails_binding b
JOIN guardrails_policy p ON p.id = b.policy_id
WHERE b.organization_id = %(organization)s AND (
    b.group_id = ANY(%(groups)s) OR b.member_id = %(member)s OR b.api_key_id = %(key)s OR b.application_id = %(application)s
)
ORDER BY b.id
"""
OVERRIDES_SQL = """
SELECT limit_id, kind, amount, starts_at, until, group_id, member_id, api_key_id, application_id
FROM guardrails_override o
WHERE o.organization_id = %(organization)s AND o.revoked_at IS NULL AND (o.until IS NULL OR o.until > %(now)s) AND (
    o.group_id = ANY(%(groups)s) OR o.member_id = %(member)s OR o.api_key_id = %(key)s OR o.application_id = %(application)s
)
"""
APPROVED_SQL = """
SELECT model FROM guardrails_request
WHERE organization_id = %(organization)s AND kind = 'model' AND status = 'approved' AND group_id = ANY(%(groups)s)
"""


async def compile_for(principal: Principal, *, generation: str, pool_nano_usd: int, now: datetime) -> Limits:
    """What applies to this key. `pool_nano_usd` is all credit ever funded. Raises DatabaseUnavailable."""
    parameters = {
        "organization": principal.organization_id,
        "groups": [node.id for node in principal.path],
        "member": principal.member_id,
        "key": principal.key_id,
        "application": principal.application_id,
        "now": now,
    }
    bound = msgspec.convert(await database.rows(BOUND_SQL, parameters), list[Bound])
    overrides = await database.rows(OVERRIDES_SQL, parameters)
    approved = await database.rows(APPROVED_SQL, parameters) if principal.approval_since is not None else []
    root = principal.path[0].id
    return compiled(
        principal,
        bound,
        [msgspec.convert({**row, "subject": subject_name(row, root_group_id=root)}, Override) for row in overrides],
        approved={row["model"] for row in approved},
        generation=generation,
        pool_nano_usd=pool_nano_usd,
        now=now,
    )


def compiled(
    principal: Principal,
    bound: Iterable[Bound],
    overrides: Iterable[Override] = (),
    *,
    approved: Iterable[str] = (),
    generation: str,
    pool_nano_usd: int,
    now: datetime,
) -> Limits:
    """The same without the queries."""
    subjects = path_subjects(principal)
    placed = _placed(principal, list(bound), subjects)
    calendar = windows.Calendar.of(principal)
    exceptions = list(overrides)
    limits = [
        _limit(limit, policy, position, subjects[position], calendar, exceptions, now)
        for position, policy in placed
        for limit in policy.limits
        if limit.kind not in OF_THE_CONSOLE
    ]
    position = next(index for index, subject in enumerate(subjects) if subject.name == POOL)
    pool = Limit(
        id=0,
        kind="budget",
        window="total",
        value=pool_nano_usd,
        subject=position,
        level="credit pool",
        node=principal.organization_name,
        policy="prepaid credit",
    )
    return Limits(
        principal.organization_id,
        generation,
        tuple(subject.name for subject in subjects),
        (*limits, pool),
        _rules(principal, [(subjects[position], policy) for position, policy in placed], frozenset(approved)),
    )


def _placed(principal: Principal, bound: list[Bound], subjects: list[Subject]) -> list[tuple[int, Bound]]:
    """Each policy with the position of the subject it applies to, most specific first."""
    position = {subject.name: index for index, subject in enumerate(subjects)}
    root = principal.path[0].id
    own = [(subject_name(msgspec.structs.asdict(one), root_group_id=root), one) for one in bound if one.reach == "self"]
    named = [(name, one) for name, one in own if name in position]
    for reach, name in (("members", f"m{principal.member_id}"), ("keys", f"k{principal.key_id}")):
        if name in position and not any(subject == name and not one.dedicated for subject, one in named):
            named += [(name, one) for one in _nearest(principal, bound, reach)]
    return sorted(((position[name], one) for name, one in named), key=lambda pair: pair[0])


def _nearest(principal: Principal, bound: list[Bound], reach: str) -> list[Bound]:
    """The defaults of the lowest group on the path that has any."""
    for node in reversed(principal.path):
        found = [one for one in bound if one.reach == reach and one.group_id == node.id]
        if found:
            return found
    return []


def subject_name(row: Mapping[str, Any], *, root_group_id: int) -> str:
    """Of a row with the four columns of a subject; the root group stands for the organisation."""
    if row["group_id"] is not None:
        return ORGANIZATION if row["group_id"] == root_group_id else f"g{row['group_id']}"
    for letter, column in (("m", "member_id"), ("k", "api_key_id"), ("a", "application_id")):
        if row[column] is not None:
            return f"{letter}{row[column]}"
    raise ValueError("exactly one subject, says a constraint")


def _limit(
    limit: BoundLimit,
    policy: Bound,
    position: int,
    subject: Subject,
    calendar: windows.Calendar,
    overrides: Iterable[Override],
    now: datetime,
) -> Limit:
    own = [one for one in overrides if one.limit_id == limit.id and one.subject == subject.name]
    window = windows.Window(None, None)
    if limit.kind in ("budget", "rpd"):
        window = windows.containing(now, limit.window, calendar)  # type: ignore[arg-type]
    active = [one for one in own if one.starts_at <= now and not one.forgives_before(window.starts_at)]
    changes = [window.ends_at, *(one.until for one in active), *(one.starts_at for one in own if one.starts_at > now)]
    value = limit.value + sum(one.amount for one in active)
    forgiven = sum(one.amount for one in active if one.kind == "reset")
    shown = value - forgiven
    degrades = limit.kind == "budget" and policy.degrade_percent is not None
    return Limit(
        id=limit.id,
        kind=limit.kind,  # type: ignore[arg-type]
        window=limit.window,
        value=value,
        subject=position,
        level=subject.level,
        node=subject.node,
        policy=policy.policy,
        starts_ms=_milliseconds(window.starts_at),
        ends_ms=_milliseconds(window.ends_at),
        until_ms=min((_milliseconds(moment) for moment in changes if moment is not None), default=0),
        forgiven=forgiven,
        keep=shown - shown * (policy.degrade_percent or 0) // 100 if degrades else None,
        degrade_model=policy.degrade_model if degrades else "",
        counts_byok=limit.counts_byok,
    )


def _rules(principal: Principal, placed: list[tuple[Subject, Bound]], approved: frozenset[str]) -> Rules:
    policies = [policy for _, policy in placed]
    since = principal.approval_since
    return Rules(
        rules=tuple(
            Rule(kind=rule.kind, entries=rule.entries, level=subject.level, node=subject.node, policy=policy.policy)
            for subject, policy in placed
            for rule in policy.rules
        ),
        clamp=next((policy.clamp for policy in policies if policy.clamp is not None), True),
        clamp_least_tokens=next(
            (policy.clamp_least_tokens for policy in policies if policy.clamp_least_tokens is not None),
            DEFAULT_CLAMP_LEAST_TOKENS,
        ),
        observed_holds=next((policy.observed_holds for policy in policies if policy.observed_holds is not None), False),
        approval=None if since is None else Approval(_milliseconds(since), approved),
    )


def _milliseconds(moment: datetime | None) -> int:
    """Rounded up: who compares it with a clock of milliseconds finds the moment passed, not about to."""
    return 0 if moment is None else -((BEGINNING - moment) // MILLISECOND)
