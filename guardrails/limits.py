"""The limits that apply to one key: every subject on its path, every policy bound to any of them.

A subject is what has a counter: `org`, `g<id>` (groups of level 1–4), `m<id>` (the member, all keys),
`k<id>` (the key), `a<id>` (the application) and `pool` (the organisation's prepaid credit). Every call
counts on every subject of its path, limited or not, so a limit set tomorrow knows today's spending.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import msgspec

from gateway_project.lib import database
from guardrails import counters, windows
from orgs.access import Principal

ORGANIZATION = "org"
POOL = "pool"


class Limit(msgspec.Struct, frozen=True):
    """One limit. `value`: nano-dollars of a budget, requests of a rate. `subject`: index into `Limits.subjects`."""

    kind: Literal["budget", "rpm"]
    window: Literal["day", "month", "total", "minute"]
    value: int
    subject: int
    level: str
    node: str
    policy: str
    starts_ms: int = 0
    ends_ms: int = 0

    @property
    def is_pool(self) -> bool:
        return self.level == "credit pool"


class Limits(msgspec.Struct, frozen=True):
    """Compiled for one key at one moment; `limits` most specific first.

    What the scripts read of it at every call is made once: names of the counters and rates, in the order of
    `subjects`, and the limits packed, five words each.
    """

    organization_id: int
    subjects: tuple[str, ...]
    limits: tuple[Limit, ...]
    counter_keys: tuple[bytes, ...] = ()
    rate_keys: tuple[bytes, ...] = ()
    packed: bytes = b""

    def __post_init__(self) -> None:
        organization_id = self.organization_id
        counted = tuple(counters.counter(organization_id, subject).encode() for subject in self.subjects)
        # Rates are few: where no limit is one, their names need not travel.
        rated = self.subjects if any(limit.kind == "rpm" for limit in self.limits) else ()
        msgspec.structs.force_setattr(self, "counter_keys", counted)
        msgspec.structs.force_setattr(
            self, "rate_keys", tuple(counters.rate(organization_id, subject).encode() for subject in rated)
        )
        msgspec.structs.force_setattr(self, "packed", msgspec.msgpack.encode(self._words()))

    def _words(self) -> list[str]:
        return [
            word
            for limit in self.limits
            for word in (
                "b" if limit.kind == "budget" else "r",
                str(limit.subject + 1),
                str(limit.value),
                str(limit.starts_ms),
                str(limit.ends_ms),
            )
        ]


class Subject(msgspec.Struct, frozen=True):
    name: str
    level: str
    node: str


LIMITS_SQL = """
SELECT b.group_id, b.member_id, b.api_key_id, b.application_id, p.name AS policy, l.kind, l."window", l.value
FROM guardrails_binding b
JOIN guardrails_policy p ON p.id = b.policy_id
JOIN guardrails_limit l ON l.policy_id = p.id
WHERE b.organization_id = %(organization)s AND (
    b.group_id = ANY(%(groups)s) OR b.member_id = %(member)s OR b.api_key_id = %(key)s OR b.application_id = %(application)s
)
ORDER BY l.id
"""


async def compile_for(principal: Principal, *, pool_nano_usd: int, now: datetime) -> Limits:
    """What applies to this key. `pool_nano_usd` is all credit ever funded. Raises DatabaseUnavailable."""
    bound = await database.rows(
        LIMITS_SQL,
        {
            "organization": principal.organization_id,
            "groups": [node.id for node in principal.path],
            "member": principal.member_id,
            "key": principal.key_id,
            "application": principal.application_id,
        },
    )
    return compiled(principal, bound, pool_nano_usd=pool_nano_usd, now=now)


def compiled(principal: Principal, bound: Iterable[dict[str, Any]], *, pool_nano_usd: int, now: datetime) -> Limits:
    """The same without the query: `bound` holds rows as LIMITS_SQL gives them."""
    subjects = path_subjects(principal)
    position = {subject.name: index for index, subject in enumerate(subjects)}
    root = principal.path[0].id
    limits = [
        _limit(row, subjects, position[_subject_name(row, root)], principal.time_zone, now)
        for row in bound
        if _subject_name(row, root) in position
    ]
    pool = Limit("budget", "total", pool_nano_usd, position[POOL], "credit pool", principal.organization_name, "prepaid credit")
    limits.sort(key=lambda limit: limit.subject)
    return Limits(principal.organization_id, tuple(subject.name for subject in subjects), (*limits, pool))


def path_subjects(principal: Principal) -> list[Subject]:
    """Most specific first: key, application, member, groups upwards, organisation, credit pool."""
    subjects = [Subject(f"k{principal.key_id}", "key", principal.key_name)]
    if principal.application_id is not None:
        subjects.append(Subject(f"a{principal.application_id}", "application", principal.application_name))
    if principal.member_id is not None:
        subjects.append(Subject(f"m{principal.member_id}", "member", principal.member_name))
    subjects += [Subject(f"g{node.id}", "group", node.name) for node in reversed(principal.path) if node.level > 0]
    subjects.append(Subject(ORGANIZATION, "organization", principal.organization_name))
    subjects.append(Subject(POOL, "credit pool", principal.organization_name))
    return subjects


def _subject_name(row: dict[str, Any], root_group_id: int) -> str:
    if row["group_id"] is not None:
        return ORGANIZATION if row["group_id"] == root_group_id else f"g{row['group_id']}"
    for letter, column in (("m", "member_id"), ("k", "api_key_id"), ("a", "application_id")):
        if row[column] is not None:
            return f"{letter}{row[column]}"
    raise ValueError("a binding without a subject")


def _limit(row: dict[str, Any], subjects: list[Subject], position: int, time_zone: str, now: datetime) -> Limit:
    subject = subjects[position]
    starts_ms = ends_ms = 0
    if row["kind"] == "budget":
        window = windows.containing(now, row["window"], time_zone)
        starts_ms, ends_ms = _milliseconds(window.starts_at), _milliseconds(window.ends_at)
    return Limit(
        row["kind"], row["window"], row["value"], position, subject.level, subject.node, row["policy"], starts_ms, ends_ms
    )


def _milliseconds(moment: datetime | None) -> int:
    return 0 if moment is None else round(moment.timestamp() * 1000)
