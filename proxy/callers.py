"""What the proxy knows of a key between calls: principal and limits, cached under the organisation's epoch.

A cached caller may be out of date; the admission script notices (its epoch differs) and the pipeline
loads again. Whoever answers without admission asks `current`, which compares epochs first.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import msgspec

from gateway_project.lib.loops import PerLoop
from gateway_project.lib.redis import RedisUnavailable
from guardrails import compiling, generations, limits
from orgs import access, epoch
from orgs.access import KeyReference, KeyRefused, Principal
from proxy import deployments, names, own_keys, spend
from proxy.names import Names
from proxy.own_keys import OwnKey

MAX_CACHED = 20_000


class Caller(msgspec.Struct, frozen=True):
    key: KeyReference
    epoch: str
    principal: Principal
    limits: limits.Limits
    own_keys: tuple[OwnKey, ...] = ()
    names: Names = Names()


_cache: dict[KeyReference, Caller] = {}
_reading: PerLoop[dict[KeyReference, asyncio.Task[Caller]]] = PerLoop(dict)


async def cached(key: KeyReference) -> Caller:
    """The caller as last loaded; the admission script will tell whether that still holds.

    Raises orgs.access.KeyRefused, DatabaseUnavailable, RedisUnavailable.
    """
    caller = _cache.get(key)
    if caller is None:
        return await _met(key)
    if caller.limits.is_over(time.time() * 1000):
        caller = await renewed(caller, now=datetime.now(UTC))
    caller.principal.refuse_expired(datetime.now(UTC))
    return caller


async def _met(key: KeyReference) -> Caller:
    """A key that this worker does not know. After a start all calls of one come at once: one reads, the others wait for it.

    A refusal, or a caller that no admission judges again, may be older than the call that waited: that one reads itself.
    """
    waits = key in _reading()
    try:
        caller = await _read(key)
        if caller.epoch or not waits:
            return caller
    except KeyRefused:
        if not waits:
            raise
    return await load(key)


async def current(key: KeyReference) -> Caller:
    """The caller as it is now: a cached one only if nothing has changed since."""
    caller = await cached(key)
    over = caller.limits.is_over(datetime.now(UTC).timestamp() * 1000)
    return caller if not over and await is_current(caller) else await load(key)


async def is_current(caller: Caller) -> bool:
    return (await epoch.read(caller.principal.organization_id)).value == caller.epoch


async def renewed(caller: Caller, *, now: datetime | None = None) -> Caller:
    """A caller in place of one that was found to be out of date. Admission judges it again, so it may be shared.

    After a change all running calls of a key come here at once: one reads, the others take what it has read. Whoever
    joins a reading that began before the change is told so by the next admission.
    """
    known = _cache.get(caller.key)
    if known is not None and known is not caller and not (now and known.limits.is_over(now.timestamp() * 1000)):
        return known
    return await _read(caller.key, now=now)


async def _read(key: KeyReference, *, now: datetime | None = None) -> Caller:
    """Loads it, unless that is under way: then what comes of that."""
    reading = _reading()
    task = reading.get(key)
    if task is None:
        task = reading[key] = asyncio.get_running_loop().create_task(load(key, now=now))
        task.add_done_callback(lambda done: _finished(reading, key, done))
    return await asyncio.shield(task)


def _finished(reading: dict[KeyReference, asyncio.Task[Caller]], key: KeyReference, done: asyncio.Task[Caller]) -> None:
    reading.pop(key, None)
    if not done.cancelled():
        done.exception()  # whoever waited has heard of it; nobody else need


async def load(key: KeyReference, *, now: datetime | None = None) -> Caller:
    """Reads everything anew. The epoch comes first: a change during the reading makes the result stale, not wrong.

    `now` decides which budget windows are compiled; Redis's clock where that found them to be over.
    """
    _cache.pop(key, None)
    try:
        return await _load(key, now)
    except RedisUnavailable:
        return await load_unguarded(key)


async def load_unguarded(key: KeyReference) -> Caller:
    """The caller as PostgreSQL has it at this moment, for one call.

    Raises KeyRefused, DatabaseUnavailable, and RedisUnavailable where its organisation lets no call pass unchecked.
    """
    principal = await access.principal_of(key)
    if not principal.admit_unguarded:
        raise RedisUnavailable("limits cannot be checked, and this organisation lets no call pass unchecked")
    compiled = await compiling.compile_for(principal, generation="", pool_nano_usd=0, now=datetime.now(UTC))
    return Caller(key, "", principal, compiled, await own_keys.of_path(principal), await names.of(principal))


async def _load(key: KeyReference, now: datetime | None) -> Caller:
    organization_id = await access.organization_of(key)
    generation = await generations.of(organization_id)
    read = await epoch.read(organization_id)
    # A change of the catalogue gives every organisation a fresh epoch: whoever caches under it has seen the change.
    await deployments.refreshed()
    principal = await access.principal_of(key)
    pool = await spend.funded(principal.organization_id)
    compiled = await compiling.compile_for(principal, generation=generation, pool_nano_usd=pool, now=now or datetime.now(UTC))
    keys, given_names = await own_keys.of_path(principal), await names.of(principal)
    caller = Caller(key, read.value, principal, compiled, keys, given_names)
    if not read.dirty:
        if len(_cache) >= MAX_CACHED:
            _cache.clear()
        _cache[key] = caller
    return caller
