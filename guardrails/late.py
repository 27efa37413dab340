"""Rows that reach the ledger without a call behind them: imported or demonstrated history.

A call's charge reaches the counters when its hold is settled. Rows nobody held anything for are told to them here,
exactly, while calls go on:
1. every counter concerned exists before anything is added. A missing one is loaded from the ledger as it is now, rows
   included; after that no load that began earlier, and has not seen the rows, can put its figures in their place;
2. a counter that was loaded before the rows were committed gets them added, one that was loaded after has them: the
   snapshot kept with it tells which, by the rule of lua/settle.lua;
3. what was added is remembered by transaction in the counter itself, so an interrupted run is simply run again.
Nothing is deleted, so what is held stays held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway_project.lib import redis
from guardrails import counters, generations, windows
from guardrails.loading import BEGIN_LOAD, LOAD, Spend
from orgs.models import Organization

_LUA = Path(__file__).with_name("lua")
_LATE = redis.Script(_LUA / "visible.lua", _LUA / "amounts.lua", _LUA / "late.lua")


class LateRows(NamedTuple):
    """What one committed transaction charged one subject within one budget window (nano-dollars).

    `recorded_ms` is the latest `recorded_at` of these rows; `own` what those on own provider keys cost by the list.
    """

    subject: str
    transaction_id: int
    recorded_ms: int
    charged: int
    own: int = 0


class ReadSpend(Protocol):
    """The ledger's answer for all subjects and window starts (ms), as one snapshot saw it."""

    def __call__(self, organization_id: int, *, subjects: Collection[str], starts: Sequence[int]) -> Spend: ...


def count(organization: Organization, *, rows: Iterable[LateRows], read: ReadSpend) -> int:
    """Makes the counters of this organisation know committed rows → how many sums were added."""
    by_subject: defaultdict[str, list[LateRows]] = defaultdict(list)
    for row in rows:
        by_subject[row.subject].append(row)
    if not by_subject:
        return 0
    token = generations.known_token(organization.pk)
    if token is None:  # nothing is counted: whoever begins to will read the rows from the ledger
        return 0
    _load(organization, sorted(by_subject), token=token, read=read)
    late = redis.client().register_script(_LATE.source)
    added = 0
    for subject, sums in by_subject.items():
        words = [word for row in sorted(sums) for word in (row.transaction_id, row.recorded_ms, row.charged, row.own)]
        added += int(late(keys=[counters.counter(organization.pk, token, subject)], args=words))
    return added


def _load(organization: Organization, subjects: Sequence[str], *, token: str, read: ReadSpend) -> None:
    """Until every counter has taken figures read from now on, or had its own."""
    begin, load = (redis.client().register_script(script.source) for script in (BEGIN_LOAD, LOAD))
    starts = window_starts(organization)
    missing = list(subjects)
    while missing:
        keys = counters.counters(organization.pk, token, missing)
        began = begin(keys=keys)
        spend = read(organization.pk, subjects=missing, starts=starts)
        words = [[*spend.totals(subject), *_before(spend, subject, starts)] for subject in missing]
        done = [load(keys=[key], args=[moment, *rest]) for key, moment, rest in zip(keys, began, words, strict=True)]
        missing = [subject for subject, loaded in zip(missing, done, strict=True) if not loaded]


def _before(spend: Spend, subject: str, starts: Sequence[int]) -> list[str]:
    return [word for start in starts for word in spend.baseline(subject, start)]


def window_starts(organization: Organization) -> list[int]:
    """Of the budget windows that hold this moment, in ms."""
    now = datetime.now(UTC)
    calendar = windows.Calendar.of(organization)
    running = (windows.containing(now, kind, calendar).starts_at for kind in windows.BOUNDED)
    return [round(start.timestamp() * 1000) for start in running if start is not None]
