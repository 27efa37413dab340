"""Cold counters: filled from the ledger, exactly, while calls go on.

A counter is what the ledger says as one snapshot saw it, plus every charge since whose transaction that snapshot did
not see. lua/begin_load.lua, lua/load.lua and lua/settle.lua keep that true whoever loads and settles when.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from gateway_project.lib import redis
from gateway_project.lib.loops import PerLoop
from guardrails import counters, generations
from guardrails.limits import Limits

_LUA = Path(__file__).with_name("lua")
BEGIN_LOAD = redis.Script(_LUA / "begin_load.lua")
LOAD = redis.Script(_LUA / "visible.lua", _LUA / "amounts.lua", _LUA / "load.lua")
UNLOAD = redis.Script(_LUA / "unload.lua")


class Wanted(NamedTuple):
    """Starts (ms) of the budget windows and of the days with counted calls that one subject's limits need."""

    windows: tuple[int, ...] = ()
    days: tuple[int, ...] = ()


class Spend(msgspec.Struct, frozen=True):
    """What the ledger says of some subjects, as one snapshot of PostgreSQL saw it (nano-dollars).

    `snapshot` is `pg_current_snapshot()` as text. `before[subject, start_ms]` is what was recorded before that moment.
    `own` and `own_before` are what calls on own provider keys cost by the list; what is not named is zero.
    """

    snapshot: str
    spent: Mapping[str, int]
    before: Mapping[tuple[str, int], int]
    own: Mapping[str, int] = {}
    own_before: Mapping[tuple[str, int], int] = {}

    def totals(self, subject: str) -> list[str]:
        """As lua/load.lua takes them."""
        return [str(self.spent[subject]), str(self.own.get(subject, 0)), self.snapshot]

    def baseline(self, subject: str, start: int) -> list[str]:
        return ["b", str(start), str(self.before[subject, start]), str(self.own_before.get((subject, start), 0))]


class SpendSource(Protocol):
    """Given by the app that owns the ledger."""

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Spend: ...

    async def calls(self, *, organization_id: int, subject: str, since_ms: int) -> int:
        """Calls of this subject that were let through and ended since."""
        ...


_loading: PerLoop[defaultdict[int, asyncio.Lock]] = PerLoop(lambda: defaultdict(asyncio.Lock))


async def load(limits: Limits, *, missing: Mapping[str, Wanted], source: SpendSource) -> None:
    """Fills the named counters from the ledger.

    Where another worker's load finishes first, that one counts, and what it left out is still missing.
    """
    lock = _loading()[limits.organization_id]
    waits = lock.locked()
    async with lock:
        if waits:
            missing = await still_missing(limits, missing)
        if not missing:
            return
        keys = counters.counters(limits.organization_id, limits.generation, missing)
        began = await redis.scripts().run(BEGIN_LOAD, keys, ())
        spend = await source.spend(
            organization_id=limits.organization_id,
            starts_by_subject={subject: wanted.windows for subject, wanted in missing.items()},
        )
        for key, (subject, wanted), moment in zip(keys, missing.items(), began, strict=True):
            words = [word for start in wanted.windows for word in spend.baseline(subject, start)]
            for day in wanted.days:
                calls = await source.calls(organization_id=limits.organization_id, subject=subject, since_ms=day)
                words += ["q", str(day), str(calls), ""]
            await redis.scripts().run(LOAD, (key,), (moment, *spend.totals(subject), *words))


async def still_missing(limits: Limits, wanted: Mapping[str, Wanted]) -> dict[str, Wanted]:
    """Those of the subjects of which Redis lacks something that is wanted."""
    counted = await asyncio.gather(
        *(
            redis.scripts().command(
                "HMGET",
                counters.counter(limits.organization_id, limits.generation, subject),
                "spent",
                *(f"b:{start}" for start in fields.windows),
                *(f"q:{day}" for day in fields.days),
            )
            for subject, fields in wanted.items()
        )
    )
    return {subject: fields for (subject, fields), found in zip(wanted.items(), counted, strict=True) if None in found}


def wanted(limits: Limits, subjects: Sequence[str]) -> dict[str, Wanted]:
    """All that the limits need of these subjects, so that one round is enough."""
    return {subject: Wanted(_starts(limits, subject, "budget"), _starts(limits, subject, "rpd")) for subject in subjects}


def _starts(limits: Limits, subject: str, kind: str) -> tuple[int, ...]:
    own = (limit for limit in limits.limits if limits.subjects[limit.subject] == subject and limit.kind == kind)
    return tuple(sorted({limit.starts_ms for limit in own if limit.starts_ms}))


async def unload(organization_id: int, subjects: Sequence[str]) -> None:
    """Makes these counters cold: the next admission reads them from the ledger. What is held stays."""
    token = await generations.of(organization_id)
    for key in counters.counters(organization_id, token, subjects):
        await redis.scripts().run(UNLOAD, (key,), ())
