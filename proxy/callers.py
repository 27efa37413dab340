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
from orgs.access import KeyReference, Principal
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
# Set when the reading that is under way is over.
_reading: PerLoop[dict[KeyReference, asyncio.Event]] = PerLoop(dict)


async def cached(key: KeyReference) -> Caller:
    """The caller as last loaded; the admission script will tell whether that still holds.

    Raises orgs.access.KeyRefused, DatabaseUnavailable, RedisUnavailable.
    """
    caller = _cache.get(key)
    if caller is None:
        caller = await _together(key)
    elif caller.limits.is_over(time.time() * 1000):
        caller = await renewed(caller, now=datetime.now(UTC))
    caller.principal.refuse_expired(datetime.now(UTC))
    return caller


async def current(key: KeyReference) -> Caller:
    """The caller as it is now: a cached one only if nothing has changed since."""
    caller = await cached(key)
    over = caller.limits.is_over(datetime.now(UTC).timestamp() * 1000)
    return caller if not over and await is_current(caller) else await load(key)


async def is_current(caller: Caller) -> bool:
    return (await epoch.read(caller.principal.organization_id)).value == caller.epoch


async def renewed(caller: Caller, *, now: datetime | None = None) -> Caller:
    """A caller in place of one that was found to be out of date. Admission judges it again. Raises as `cached`."""
    found = _known(caller.key, besides=caller, now=now) or await _together(caller.key, besides=caller, now=now)
    found.principal.refuse_expired(datetime.now(UTC))
    return found


async def _together(key: KeyReference, *, besides: Caller | None = None, now: datetime | None = None) -> Caller:
    """After a start, and after a change, all calls of a key come here at once: one reads, the others wait and take what is
    cached then. Whoever finds nothing, since the reading failed, was refused or may not be kept, reads for itself.
    """
    reading = _reading()
    if (under_way := reading.get(key)) is not None:
        await under_way.wait()
        return _known(key, besides=besides, now=now) or await load(key, now=now)
    over = reading[key] = asyncio.Event()
    try:
        return await load(key, now=now)
    finally:
        del reading[key]
        over.set()


def _known(key: KeyReference, *, besides: Caller | None, now: datetime | None) -> Caller | None:
    known = _cache.get(key)
    is_old = known is None or known is besides or (now is not None and known.limits.is_over(now.timestamp() * 1000))
    return None if is_old else known


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
