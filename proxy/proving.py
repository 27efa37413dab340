"""Counters against the ledger: each figure in Redis is what PostgreSQL says, or it is shown, and corrected if wanted.

`held` and `live` are compared at any time: counter and holds are read in one step, and must agree. What was spent is compared for
subjects that are at rest: nothing held, nothing changed while the ledger was read. A difference counts only if it stays:
a row that was committed a moment ago may be settled a moment later.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from billing.buckets import SpendSums, spend_sums
from gateway_project.lib import findings, redis
from guardrails import counters, generations, loading
from orgs.models import Organization

ROUNDS = 4
PAUSE_SECONDS = 0.5
# Of holds: what the ledger does not know.
HELD, HELD_OWN, LIVE = "held", "held_own", "live"
_LUA = Path(loading.__file__).with_name("lua")
_RECOUNT = redis.Script(_LUA / "amounts.lua", _LUA / "recount.lua")
OF_HOLDS = {HELD, HELD_OWN, LIVE}
AMOUNTS = {"spent", "own", *OF_HOLDS}

log = structlog.get_logger(__name__)


class Difference(NamedTuple):
    """One figure of one counter. `figure` is spent, held, or `before <moment>` for a window's baseline, in nano-dollars; own,
    held_own or `own before <moment>` for the same of calls on own provider keys; or live, the number of running calls,
    where that is limited.
    """

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
    held: Tally[str]
    held_own: Tally[str]
    live: Tally[str]


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
    """Counts holds anew, and makes counters cold whose spend differs: the next call reads them from the ledger."""
    token = generations.known_token(organization.pk)
    unload, recount = (redis.client().register_script(script.source) for script in (loading.UNLOAD, _RECOUNT))
    figures: dict[str, set[str]] = {}
    for difference in differences:
        figures.setdefault(difference.subject, set()).add(difference.figure)
    for subject, differing in sorted(figures.items()):
        findings.add_differences(1)
        log.error("counter.corrected", organization=organization.pk, subject=subject, figures=sorted(differing))
        if token is None:
            continue
        key = counters.counter(organization.pk, token, subject)
        if differing & OF_HOLDS:
            recount(keys=[counters.holds(organization.pk, token), key], args=[subject])
        if differing - OF_HOLDS:
            unload(keys=[key])


def _subjects(organization_id: int, token: str) -> list[str]:
    prefix = counters.counter(organization_id, token, "")
    return sorted(key.decode().removeprefix(prefix) for key in redis.client().scan_iter(match=f"{prefix}*", count=1000))


def _compared(organization: Organization, token: str, subjects: list[str]) -> tuple[list[Difference], set[str]]:
    before = _read(organization.pk, token, subjects)
    starts = {int(field[2:]) for fields in before.counters.values() for field in fields if field.startswith("b:")}
    moments = {start: datetime.fromtimestamp(start / 1000, tz=UTC) for start in starts}
    ledger = spend_sums(organization.pk, subjects=subjects, starts=moments.values())
    after = _read(organization.pk, token, subjects)
    busy = {subject for subject in subjects if subject in before.held or before.counters[subject] != after.counters[subject]}
    found = []
    for subject in subjects:
        counted = after.counters[subject]
        expected = {HELD: after.held[subject], HELD_OWN: after.held_own[subject]} | (
            {LIVE: after.live[subject]} if LIVE in counted else {}
        )
        if subject not in busy and "spent" in counted:
            expected |= _expected(subject, counted, ledger, moments)
        found += [
            Difference(organization.name, subject, _figure(field, moments), counted.get(field, 0), value)
            for field, value in expected.items()
            if counted.get(field, 0) != value
        ]
    return found, busy


def _expected(subject: str, counted: Collection[str], ledger: SpendSums, moments: Mapping[int, datetime]) -> dict[str, int]:
    found = {"spent": ledger.lifetime[subject].charged, "own": ledger.lifetime[subject].own}
    for start in (field[2:] for field in counted if field.startswith("b:")):
        before = ledger.before[subject, moments[int(start)]]
        found |= {f"b:{start}": before.charged, f"o:{start}": before.own}
    return found


def _figure(field: str, moments: Mapping[int, datetime]) -> str:
    sort, _, start = field.partition(":")
    moment = f"before {moments[int(start)]:%Y-%m-%d %H:%M} UTC" if start else ""
    return {"b": moment, "o": f"own {moment}"}.get(sort, field)


def _read(organization_id: int, token: str, subjects: list[str]) -> _Seen:
    pipeline = redis.client().pipeline(transaction=True)
    pipeline.hgetall(counters.holds(organization_id, token))
    for key in counters.counters(organization_id, token, subjects):
        pipeline.hgetall(key)
    holds, *found = pipeline.execute()
    held, held_own, live = Tally[str](), Tally[str](), Tally[str]()
    for record in holds.values():
        amount, own, state, _, _, _, lived, _, on, _ = record.decode().split("|", 9)
        for position, subject in enumerate(on.split(","), start=1):
            held[subject] += int(amount)
            held_own[subject] += int(own)
            live[subject] += state != "s" and str(position) in lived.split(",")
    return _Seen({subject: _figures(fields) for subject, fields in zip(subjects, found, strict=True)}, held, held_own, live)


def _figures(fields: Mapping[bytes, Any]) -> dict[str, int]:
    """The amounts among a counter's fields (lua/load.lua names them all)."""
    named = {name.decode(): value for name, value in fields.items()}
    return {name: int(value) for name, value in named.items() if name in AMOUNTS or name.startswith(("b:", "o:"))}
