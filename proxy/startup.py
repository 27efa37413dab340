"""What a proxy worker opens once per event loop, in the order in which it must close in reverse.

Redis and PostgreSQL close last, then the lease, then the spool and settling work that still runs, and the ledger's
queue first of all: nothing that a call has earned is lost in an orderly stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from billing import ledger, spool, writers
from gateway_project.lib import database, lifespan, redis
from gateway_project.lib.loops import PerLoop
from guardrails import generations, leases
from proxy import background, draining, refusals

_starting = PerLoop(asyncio.Lock)
_started = PerLoop(lambda: False)


class Registry:
    """guardrails.generations.Workers over the ledger's writers."""

    async def unfenced(self) -> Collection[str]:
        return await writers.open_writers()

    async def fence(self, workers: Collection[str]) -> None:
        await writers.fence(workers)

    async def spools_are_drained(self) -> bool:
        return not spool.pending_of_the_dead()


async def ensure() -> None:
    """Idempotent. Where the server announces no start-up, the first calls of a worker wait here for each other."""
    if _started.get():
        return
    async with _starting():
        if not _started.get():
            await _open()
            _started.put(True)


async def _open() -> None:
    redis.scripts()
    await database.pool()
    await leases.start()
    lifespan.on_shutdown(spool.close_all)
    lifespan.on_shutdown(background.drain)
    # Holds and ledger rows carry one name, so that whoever fences a silent worker knows what it held.
    await ledger.start(writer_id=leases.worker_id(), on_renamed=_rename)
    lifespan.on_shutdown(refusals.flush_all)
    draining.start()  # a generation may wait for what it writes
    await generations.start(Registry())


def _rename(writer_id: str) -> None:
    """Fenced: what was held under the old name is resolved by others. The new one is known before it holds anything."""
    lease = leases.current()
    lease.worker_id = writer_id
    background.run(lease.renew(), of="show the lease of a renamed worker")
