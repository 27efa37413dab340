"""Counters against the ledger: each figure in Redis is what PostgreSQL says, or it is shown, and corrected if wanted.

`held` is compared at any time: counter and holds are read in one step, and must agree. What was spent is compared for
subjects that are at rest: nothing held, nothing changed while the ledger was read. A difference counts only if it stays:
a row that was committed a moment ago may be settled a moment later.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from prometheus_client import Counter

from billing.buckets import SpendSums, spend_sums
from gateway_project.lib import redis
from guardrails import counters, generations, loading
from orgs.models import Organization

ROUNDS = 4
PAUSE_SECONDS = 0.5

log = structlog.get_logger(__name__)

DIFFERENCES = Counter("gatehouse_counter_differences", "Counters found to differ from the ledger")


class Difference(NamedTuple):
    """One figure of one counter (nano-dollars). `figure` is spent, held, or `before <moment>` for a window's baseline."""

    organization: str
    subject: str
    figure: str
    counted: int
    expected: int


class Proof(NamedTuple):
    """`busy` subjects had calls running: of them only what is held was compared."""

    counters: int
    busy: int
    differences: list[Difference]


class _Seen(NamedTuple):
    """What Redis holds of an organisation, read in one step."""

    counters: dict[str, dict[str, int]]
    held: dict[str, int]


def prove(organization: Organization) -> Proof:
    """Raises redis.exceptions.RedisError, DatabaseError."""
    token = generations.known_token(organization.pk)
    subjects = _subjects(organization.pk, token) if token else []
    if token is None or not subjects:
        return Proof(0, 0, [])
    differences: list[Difference] = []
    busy: set[str] = set()
    for round_number in range(ROUNDS):
        if round_number:
            time.sleep(PAUSE_SECONDS)
        differences, busy = _compared(organization, token, subjects)
        if not differences:
            break
    return Proof(len(subjects), len(busy), differences)


def correct(organization: Organization, differences: Iterable[Difference]) -> None:
    """Makes the counters that differ cold: the next call reads them from the ledger."""
    token = generations.known_token(organization.pk)
    unload = redis.client().register_script(loading.UNLOAD.source)
    for subject in sorted({difference.subject for difference in differences}):
        DIFFERENCES.inc()
        log.error("counter.corrected", organization=organization.pk, subject=subject)
        if token is not None:
            unload(keys=[counters.counter(organization.pk, token, subject)])


def _subjects(organization_id: int, token: str) -> list[str]:
    prefix = counters.counter(organization_id, token, "")
    return sorted(key.decode().removeprefix(prefix) for key in redis.client().scan_iter(match=f"{prefix}*", count=1000))


def _compared(organization: Organization, token: str, subjects: list[str]) -> tuple[list[Difference], set[str]]:
    before = _read(organization.pk, token, subjects)
    starts = {int(field[2:]) for fields in before.counters.values() for field in fields if field.startswith("b:")}
    moments = {start: datetime.fromtimestamp(start / 1000, tz=UTC) for start in starts}
    ledger = spend_sums(organization.pk, subjects=subjects, starts=moments.values())
    after = _read(organization.pk, token, subjects)
    busy = {
        subject
        for subject in subjects
        if before.held.get(subject) is not None or before.counters[subject] != after.counters[subject]
    }
    found = []
    for subject in subjects:
        expected = {"held": after.held.get(subject, 0)}
        counted = after.counters[subject]
        if subject not in busy and "spent" in counted:
            expected |= _expected(subject, counted, ledger, moments)
        found += [
            Difference(organization.name, subject, _figure(field, moments), counted.get(field, 0), value)
            for field, value in expected.items()
            if counted.get(field, 0) != value
        ]
    return found, busy


def _expected(subject: str, counted: Collection[str], ledger: SpendSums, moments: Mapping[int, datetime]) -> dict[str, int]:
    windows = {field: ledger.before[subject, moments[int(field[2:])]].charged for field in counted if field.startswith("b:")}
    return {"spent": ledger.lifetime[subject].charged} | windows


def _figure(field: str, moments: Mapping[int, datetime]) -> str:
    return f"before {moments[int(field[2:])]:%Y-%m-%d %H:%M} UTC" if field.startswith("b:") else field


def _read(organization_id: int, token: str, subjects: list[str]) -> _Seen:
    pipeline = redis.client().pipeline(transaction=True)
    pipeline.hgetall(counters.holds(organization_id, token))
    for key in counters.counters(organization_id, token, subjects):
        pipeline.hgetall(key)
    holds, *found = pipeline.execute()
    held: dict[str, int] = {}
    for record in holds.values():
        amount, _, _, _, _, _, _, on, _ = record.decode().split("|", 8)
        for subject in on.split(","):
            held[subject] = held.get(subject, 0) + int(amount)
    return _Seen({subject: _figures(fields) for subject, fields in zip(subjects, found, strict=True)}, held)


def _figures(fields: Mapping[bytes, Any]) -> dict[str, int]:
    """The amounts among a counter's fields (lua/load.lua names them all)."""
    named = {name.decode(): value for name, value in fields.items()}
    return {name: int(value) for name, value in named.items() if name in ("spent", "held") or name.startswith("b:")}
