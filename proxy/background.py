"""Work that must finish although nobody waits for it any more: settling the call of a caller who hung up.

Tasks are kept until they end (the event loop alone would let them be collected), and an orderly shutdown
waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from django.conf import settings

from gateway_project.lib.ending import ending
from gateway_project.lib.tended import cancelled

# At the end of a process.
LAST_SECONDS = 2.0

log = structlog.get_logger(__name__)

_running: set[asyncio.Task[Any]] = set()

T = TypeVar("T")


def run(work: Coroutine[Any, Any, Any], *, of: str) -> asyncio.Task[None]:
    """`of` names the work where its failure is logged."""
    return begun(_logged(work, of), of=of)


def begun(work: Coroutine[Any, Any, T], *, of: str) -> asyncio.Task[T]:
    """Runs to its end whoever waits for it or leaves; its failure is whose who waits."""
    task = asyncio.get_running_loop().create_task(work, name=of)
    _running.add(task)
    task.add_done_callback(_running.discard)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


async def waited(work: Coroutine[Any, Any, T], *, of: str, seconds: float) -> T:
    """The result, if there is one in time: then the work goes on alone. Raises TimeoutError at the very time."""
    async with asyncio.timeout(seconds):
        return await asyncio.shield(begun(work, of=of))


async def drain() -> None:
    """Waits for what is running, bounded by the time the ledger may take.

    Not so long where the process ends, and then what still runs is cancelled: what it would have done others do, from the
    ledger, the spool and the leases.
    """
    if _running:
        seconds = LAST_SECONDS if ending.is_asked else settings.LEDGER_TIMEOUT_SECONDS
        await asyncio.wait(_running, timeout=seconds)
    if ending.is_asked:
        await cancelled(set(_running))


async def _logged(work: Coroutine[Any, Any, Any], of: str) -> None:
    try:
        await work
    except Exception as error:
        log.error("background.failed", work=of, error=type(error).__name__)
