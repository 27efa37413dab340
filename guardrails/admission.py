"""Admission: may this call run, and what may it cost? One atomic step in Redis, one more when it ends.

Guarantees, for every budget on the path and the credit pool:
1. a call is admitted only if spent + held + its own worst case ≤ limit, all judged and reserved in one step;
2. it is refused for money only if that sum really exceeds a limit, where held counts running calls alone;
3. a charge is added to a counter exactly once (lua/settle.lua says how, lua/load.lua what a counter starts from);
4. a server that lost something is noticed before anything is judged by it (guardrails/generations.py).

Does not guarantee that a hold ends by itself: whoever admits settles or releases in `finally`, and
proxy.holds resolves what a dead worker left. Prices and the ledger are unknown here: the caller hands
in amounts, and a `SpendSource` that can say what was spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from gateway_project.lib import redis
from guardrails import counters, generations, leases, loading
from guardrails.limits import POOL, Limit, Limits
from guardrails.loading import SpendSource
from orgs import epoch as epochs

_LUA = Path(__file__).with_name("lua")
_ADMIT = redis.Script(_LUA / "amounts.lua", _LUA / "admit.lua")
_SETTLE = redis.Script(_LUA / "visible.lua", _LUA / "amounts.lua", _LUA / "settle.lua")
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


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """The hold of a running call. What is left is after this call; None where no such limit applies."""

    call_id: UUID
    limits: Limits
    amount_nano_usd: int
    admitted_ms: int
    clamped: bool
    tightest: Limit | None = None
    left_nano_usd: int = 0
    rate: Limit | None = None
    rate_left: int = 0
    token_rate: Limit | None = None
    tokens_left: int = 0
    # Let through while limits could not be checked: nothing is held, the charge is added all the same.
    unguarded: bool = False

    @property
    def organization_id(self) -> int:
        return self.limits.organization_id

    @property
    def subjects(self) -> tuple[str, ...]:
        return self.limits.subjects


class Refused(msgspec.Struct, frozen=True):
    """The limit that triggered, with the figures it was judged by."""

    limit: Limit
    used: int
    held: int
    at_ms: int
    retry_after_ms: int


class Degrade(msgspec.Struct, frozen=True):
    """Nothing is held: the call should go to `limit.degrade_model`, because this budget is near its cap."""

    limit: Limit


async def admit(
    limits: Limits,
    *,
    epoch: str,
    call_id: UUID,
    amount: int,
    least: int | None,
    tokens: int,
    may_degrade: bool,
    context: str,
    source: SpendSource,
    own_only: bool = False,
) -> Admitted | Refused | Degrade:
    """Reserves `amount` nano-dollars and `tokens` on every subject of the path, or says which limit refuses.

    `least`: where a budget affords less than `amount` but at least this much, that is reserved instead.
    `context` is kept with the hold, for whoever must resolve it. `own_only`: the call goes to the organisation's own
    provider keys or nowhere, so the pool pays nothing, and budgets count it only where they say so.
    Raises Stale, RedisUnavailable.
    """
    leases.refuse_if_lost()
    await leases.current().announce(limits.organization_id)
    record = f"{limits.counted}|{leases.worker_id()}|{','.join(limits.subjects)}|{context}"
    keys = _admission_keys(limits, call_id)
    words: tuple[redis.Argument, ...] = (
        epoch,
        redis.RUN_ID,
        limits.generation,
        str(call_id),
        str(amount),
        "" if least is None else str(least),
        tokens,
        "1" if may_degrade else "",
        record,
        epochs.TRANSACTION_LIMIT_SECONDS,
        len(limits.subjects),
        "1" if own_only else "",
        limits.packed,
    )
    for _ in range(MAX_ROUNDS):
        reply = await redis.scripts().run(_ADMIT, keys, words)
        match reply[0]:
            case b"OK":
                return _admitted(limits, call_id, amount, reply, f"{tokens}|{record}", own_only=own_only)
            case b"REFUSED":
                return _refused(
                    limits.judged[reply[1] - 1],
                    used=int(reply[2]),
                    held=int(reply[3]),
                    at_ms=int(reply[4]),
                    retry_ms=int(reply[5]),
                )
            case b"DEGRADE":
                return Degrade(limits.judged[reply[1] - 1])
            case b"COLD":
                cold = [limits.subjects[position - 1] for position in reply[1:]]
                await loading.load(limits, missing=loading.wanted(limits, cold), source=source)
            case b"ROLLED":
                raise Stale(datetime.fromtimestamp(int(reply[1]) / 1000, tz=UTC))
            case b"STALE":
                raise Stale
            case b"GENERATION":
                await generations.renew()
                raise Stale
            case b"FULL":
                raise redis.RedisUnavailable("calls that are running hold more than can be counted")
            case _:
                raise redis.RedisUnavailable("the call was given up before it was admitted")
    raise redis.RedisUnavailable("Redis does not keep the counters that are written to it")


async def settle(
    held: Admitted,
    *,
    charged: int,
    own: int = 0,
    transaction_id: int,
    recorded_at: datetime,
    tokens: int | None = None,
) -> bool:
    """Replaces the hold by what the committed ledger row charged; False where the call was settled before.

    `own`: what it cost by the list on an own provider key. `tokens`: how many were used; None where as many count as were
    reserved.
    """
    limits = held.limits
    return await settle_hold(
        limits.organization_id,
        held.call_id,
        limits.subjects,
        charged=charged,
        own=own,
        transaction_id=transaction_id,
        recorded_at=recorded_at,
        tokens=tokens if limits.rate_keys else None,
    )


async def release(held: Admitted) -> bool:
    """Ends a hold for which nothing is charged and no token was used."""
    return await give_up(held.limits, held.call_id)


async def give_up(limits: Limits, call_id: UUID) -> bool:
    """Ends what this call may hold, if it holds anything: also an admission that is still under way."""
    tokens = 0 if limits.rate_keys else None
    return await settle_hold(limits.organization_id, call_id, limits.subjects, tokens=tokens)


async def settle_hold(
    organization_id: int,
    call_id: UUID,
    subjects: Sequence[str],
    *,
    charged: int = 0,
    own: int = 0,
    transaction_id: int = 0,
    recorded_at: datetime | None = None,
    tokens: int | None = None,
) -> bool:
    """Charges each subject; the pool never pays what own provider keys cost. Without amounts the hold is released.

    `tokens`: how many were used; None where as many count as were reserved. Raises RedisUnavailable."""
    recorded_ms = 0 if recorded_at is None else int(recorded_at.timestamp() * 1000)
    used = "" if tokens is None else str(tokens)
    charge, own_charge = str(charged), str(own)
    for _ in range(MAX_ROUNDS):
        token = await generations.of(organization_id)
        keys = (
            counters.generation(organization_id),
            counters.holds(organization_id, token),
            counters.tombstone(organization_id, token, call_id),
            *counters.counters(organization_id, token, subjects),
            *(counters.rates(organization_id, token, subjects) if used else ()),
        )
        words: list[redis.Argument] = [
            redis.RUN_ID,
            token,
            str(call_id),
            transaction_id,
            recorded_ms,
            used,
            len(subjects),
            *[word for subject in subjects for word in (charge, "0" if subject == POOL else own_charge)],
        ]
        reply = await redis.scripts().run(_SETTLE, keys, words)
        if reply >= 0:
            leases.forget(call_id)
            return bool(reply)
        await generations.renew()
    raise redis.RedisUnavailable("Redis does not keep what is written to it")


def _admission_keys(limits: Limits, call_id: UUID) -> list[str | bytes]:
    organization_id, token = limits.organization_id, limits.generation
    epoch_key, dirty_key = epochs.keys(organization_id)
    return [
        epoch_key,
        counters.generation(organization_id),
        counters.holds(organization_id, token),
        counters.tombstone(organization_id, token, call_id),
        *limits.counter_keys,
        *limits.rate_keys,
        dirty_key,
    ]


def _refused(limit: Limit, *, used: int, held: int, at_ms: int, retry_ms: int) -> Refused:
    """A day's number of calls is free again when the limit's time is over; of minutes and running calls the script knows."""
    return Refused(limit, used, held, at_ms, limit.until_ms - at_ms if limit.kind == "rpd" else retry_ms)


def _admitted(limits: Limits, call_id: UUID, asked: int, reply: list[Any], record: str, *, own_only: bool) -> Admitted:
    _, admitted_ms, amount, tightest, left, rate, rate_left, token_rate, tokens_left = reply
    amounts = f"{int(amount)}|{int(amount) if own_only else 0}"
    held = leases.Hold(limits.organization_id, limits.subjects, f"{amounts}|r|{admitted_ms}|{record}")
    leases.current().holds[call_id] = held
    return Admitted(
        call_id=call_id,
        limits=limits,
        amount_nano_usd=int(amount),
        admitted_ms=int(admitted_ms),
        clamped=int(amount) < asked,
        tightest=limits.judged[tightest - 1] if tightest else None,
        left_nano_usd=int(left),
        rate=limits.judged[rate - 1] if rate else None,
        rate_left=int(rate_left),
        token_rate=limits.judged[token_rate - 1] if token_rate else None,
        tokens_left=int(tokens_left),
    )
