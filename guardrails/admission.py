"""Admission: may this call run, and what may it cost? One atomic step in Redis, one more when it ends.

Guarantees, for every budget on the path and the credit pool:
1. a call is admitted only if spent + held + its own worst case ≤ limit, all judged and reserved in one step;
2. it is refused for money only if that sum really exceeds a limit, where held counts running calls alone;
3. a charge is added to a counter exactly once (lua/settle.lua says how, lua/load.lua what a counter starts from).

Does not guarantee that a hold ends by itself: whoever admits settles or releases in `finally`, and
proxy.holds resolves what a dead worker left. Prices and the ledger are unknown here: the caller hands
in amounts, and a `SpendSource` that can say what was spent.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from gateway_project.lib import redis
from guardrails import counters, leases
from guardrails.limits import Limit, Limits
from orgs import epoch as epochs

_LUA = Path(__file__).with_name("lua")
_ADMIT = redis.Script(_LUA / "admit.lua")
_SETTLE = redis.Script(_LUA / "visible.lua", _LUA / "settle.lua")
_BEGIN_LOAD = redis.Script(_LUA / "begin_load.lua")
_LOAD = redis.Script(_LUA / "visible.lua", _LUA / "load.lua")
_UNLOAD = redis.Script(_LUA / "unload.lua")
# How long a settled call is remembered (settle.lua).
TOMBSTONE_SECONDS = 300
# A counter can be missing once per subject and window; more rounds mean that Redis loses what is written.
MAX_ROUNDS = 6


class Stale(Exception):
    """The limits were compiled before a change, or for a window that is over: compile them again.

    `now` is Redis's clock where a window was the reason: it decides which window holds the moment.
    """

    def __init__(self, now: datetime | None = None) -> None:
        super().__init__()
        self.now = now


class Spend(msgspec.Struct, frozen=True):
    """What the ledger says of some subjects, as one snapshot of PostgreSQL saw it (nano-dollars).

    `snapshot` is `pg_current_snapshot()` as text. `before[subject, start_ms]` is what was recorded before that moment.
    """

    snapshot: str
    spent: Mapping[str, int]
    before: Mapping[tuple[str, int], int]


class SpendSource(Protocol):
    """Given by the app that owns the ledger."""

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Spend: ...


class Admitted(msgspec.Struct, frozen=True):
    """The hold of a running call. `left` and `rate_left` are after this call; None where no such limit applies."""

    call_id: UUID
    organization_id: int
    subjects: tuple[str, ...]
    amount_nano_usd: int
    admitted_ms: int
    clamped: bool
    tightest: Limit | None
    left_nano_usd: int
    rate: Limit | None
    rate_left: int


class Refused(msgspec.Struct, frozen=True):
    """The limit that triggered, with the figures it was judged by."""

    limit: Limit
    used: int
    held: int
    at_ms: int
    retry_after_ms: int


async def admit(
    limits: Limits, *, epoch: str, call_id: UUID, amount: int, least: int | None, context: str, source: SpendSource
) -> Admitted | Refused:
    """Reserves `amount` nano-dollars on every subject of the path, or says which limit refuses.

    `least`: where a budget affords less than `amount` but at least this much, that is reserved instead.
    `context` is kept with the hold, for whoever must resolve it. Raises Stale, RedisUnavailable.
    """
    leases.refuse_if_lost()
    await leases.current().announce(limits.organization_id)
    keys = _admission_keys(limits, call_id)
    words: tuple[redis.Argument, ...] = (
        epoch,
        str(call_id),
        str(amount),
        "" if least is None else str(least),
        f"{leases.worker_id()}|{','.join(limits.subjects)}|{context}",
        epochs.TRANSACTION_LIMIT_SECONDS,
        len(limits.subjects),
        limits.packed,
    )
    for _ in range(MAX_ROUNDS):
        reply = await redis.scripts().run(_ADMIT, keys, words)
        match reply[0]:
            case b"OK":
                return _admitted(limits, call_id, amount, reply)
            case b"REFUSED":
                return Refused(limits.limits[reply[1] - 1], int(reply[2]), int(reply[3]), int(reply[4]), int(reply[5]))
            case b"COLD":
                await load(limits, missing=_missing(limits, reply), source=source)
            case b"ROLLED":
                raise Stale(datetime.fromtimestamp(int(reply[1]) / 1000, tz=UTC))
            case b"STALE":
                raise Stale
            case _:
                raise redis.RedisUnavailable("the call was given up before it was admitted")
    raise redis.RedisUnavailable("Redis does not keep the counters that are written to it")


async def settle(held: Admitted, *, charged: int, pool_charged: int, transaction_id: int, recorded_at: datetime) -> bool:
    """Replaces the hold by what the committed ledger row charged; False where the call was settled before."""
    amounts = [pool_charged if subject == "pool" else charged for subject in held.subjects]
    return await settle_hold(held.organization_id, held.call_id, held.subjects, amounts, transaction_id, recorded_at)


async def settle_hold(
    organization_id: int,
    call_id: UUID,
    subjects: Sequence[str],
    amounts: Sequence[int],
    transaction_id: int,
    recorded_at: datetime | None,
) -> bool:
    recorded_ms = 0 if recorded_at is None else int(recorded_at.timestamp() * 1000)
    keys = (
        counters.holds(organization_id),
        counters.tombstone(organization_id, call_id),
        *counters.counters(organization_id, subjects),
    )
    reply = await redis.scripts().run(_SETTLE, keys, (str(call_id), transaction_id, recorded_ms, *map(str, amounts)))
    return bool(reply)


async def unload(organization_id: int, subjects: Sequence[str]) -> None:
    """Makes these counters cold: the next admission reads them from the ledger. What is held stays."""
    for subject in subjects:
        await redis.scripts().run(_UNLOAD, (counters.counter(organization_id, subject),), ())


async def release(held: Admitted) -> bool:
    """Ends a hold for which nothing is charged."""
    return await settle_hold(held.organization_id, held.call_id, held.subjects, [0] * len(held.subjects), 0, None)


_loading: WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[int, asyncio.Lock]] = WeakKeyDictionary()


async def load(limits: Limits, *, missing: Mapping[str, Sequence[int]], source: SpendSource) -> None:
    """Fills the named counters from the ledger; `missing` maps a subject to the window starts (ms) wanted of it.

    Where another worker's load finishes first, that one counts, and what it left out is still missing.
    """
    lock = _loading.setdefault(asyncio.get_running_loop(), defaultdict(asyncio.Lock))[limits.organization_id]
    waits = lock.locked()
    async with lock:
        if waits:
            missing = await _still_missing(limits.organization_id, missing)
        if not missing:
            return
        began = await redis.scripts().run(_BEGIN_LOAD, counters.counters(limits.organization_id, missing), ())
        spend = await source.spend(organization_id=limits.organization_id, starts_by_subject=missing)
        for (subject, starts), moment in zip(missing.items(), began, strict=True):
            pairs = [word for start in starts for word in (str(start), str(spend.before[subject, start]))]
            key = counters.counter(limits.organization_id, subject)
            await redis.scripts().run(_LOAD, (key,), (moment, str(spend.spent[subject]), spend.snapshot, *pairs))


async def _still_missing(organization_id: int, missing: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """What nobody else has loaded meanwhile."""
    counted = await asyncio.gather(
        *(
            redis.scripts().command(
                "HMGET", counters.counter(organization_id, subject), "spent", *(f"b:{start}" for start in starts)
            )
            for subject, starts in missing.items()
        )
    )
    return {subject: starts for (subject, starts), found in zip(missing.items(), counted, strict=True) if None in found}


def _missing(limits: Limits, reply: list[Any]) -> dict[str, list[int]]:
    """All windows of each cold subject at once, so that one round is enough."""
    cold = {limits.subjects[position - 1] for position in reply[1::2]}
    return {
        subject: sorted(
            {limit.starts_ms for limit in limits.limits if limit.starts_ms and limits.subjects[limit.subject] == subject}
        )
        for subject in cold
    }


def _admission_keys(limits: Limits, call_id: UUID) -> list[str | bytes]:
    organization_id = limits.organization_id
    epoch_key, dirty_key = epochs.keys(organization_id)
    return [
        epoch_key,
        counters.holds(organization_id),
        counters.tombstone(organization_id, call_id),
        *limits.counter_keys,
        *limits.rate_keys,
        dirty_key,
    ]


def _admitted(limits: Limits, call_id: UUID, asked: int, reply: list[Any]) -> Admitted:
    _, admitted_ms, amount, tightest, left, rate, rate_left = reply
    return Admitted(
        call_id=call_id,
        organization_id=limits.organization_id,
        subjects=limits.subjects,
        amount_nano_usd=int(amount),
        admitted_ms=int(admitted_ms),
        clamped=int(amount) < asked,
        tightest=limits.limits[tightest - 1] if tightest else None,
        left_nano_usd=int(left),
        rate=limits.limits[rate - 1] if rate else None,
        rate_left=int(rate_left),
    )
