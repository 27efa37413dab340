"""What a proxy worker opens once per event loop, in the order in which it must close in reverse.

Redis and PostgreSQL close last, then the lease, then settling work that still runs, and the ledger's
queue first of all: nothing that a call has earned is lost in an orderly stop.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary, WeakSet

from billing import ledger
from gateway_project.lib import database, lifespan, redis
from guardrails import leases
from proxy import background, refusals

_starting: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
_started: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


async def ensure() -> None:
    """Idempotent. Where the server announces no start-up, the first calls of a worker wait here for each other."""
    loop = asyncio.get_running_loop()
    if loop in _started:
        return
    async with _starting.setdefault(loop, asyncio.Lock()):
        if loop not in _started:
            await _open()
            _started.add(loop)


async def _open() -> None:
    redis.scripts()
    await database.pool()
    await leases.start()
    lifespan.on_shutdown(background.drain)
    ledger.current()
    lifespan.on_shutdown(refusals.flush_all)
