"""Work that must never end: when it dies, whatever of, that is told and it begins anew a moment later.

What it works on outlives it: who begins anew goes on with what the one before has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import structlog

from gateway_project.lib import logs

log = structlog.get_logger(__name__)

FIRST_SECONDS = 0.2
MOST_SECONDS = 5.0
# Who lived that long has not died of what the one before died of.
CALM_SECONDS = 60.0
# Who is cancelled may end what it is at; psycopg asks a silent server for ten seconds to agree.
LAST_SECONDS = 1.0


async def cancelled(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them, and those that take long once more, which psycopg obeys at once. Returns when all have ended."""
    for task in tasks:
        task.cancel()
    slow = (await asyncio.wait(tasks, timeout=LAST_SECONDS))[1] if tasks else ()
    for task in slow:
        task.cancel()
    if slow:
        await asyncio.wait(slow)


class Tended:
    """A task of the running event loop. The pause before it begins anew doubles while deaths follow each other."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._work, self._name = work, name
        self._pause = FIRST_SECONDS
        self._again: asyncio.TimerHandle | None = None
        self.stopped = False
        self._begin()

    @property
    def runs(self) -> bool:
        """False between a death and the new beginning, and once it is stopped."""
        return not self._task.done()

    async def stop(self) -> None:
        """For good; returns when it has ended. Idempotent."""
        self.stopped = True
        if self._again is not None:
            self._again.cancel()
        await cancelled({self._task})

    def _begin(self) -> None:
        self._began_at = self._loop.time()
        self._task = self._loop.create_task(self._work(), name=self._name)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self.stopped:
            return
        if self._loop.time() - self._began_at > CALM_SECONDS:
            self._pause = FIRST_SECONDS
        told = {"error": type(error).__name__, "places": logs.places(error)} if error else {"error": "cancelled or ended"}
        log.error("task.died", task=self._name, again_in_seconds=self._pause, **told)
        self._again = self._loop.call_later(self._pause, self._begin)
        self._pause = min(2 * self._pause, MOST_SECONDS)
