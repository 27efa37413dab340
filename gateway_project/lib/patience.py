"""Bounds on one wait after another of one task, for a fifth of what `asyncio.timeout` costs each time (5 µs).

A stream waits dozens of times: for the provider's next bytes, for its caller to take them. One timer serves all waits of
a `Patience`. It is not set anew for each of them, but looks as it rings whether the wait of that moment is over.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Patience:
    """`with patience.within(seconds): await …` raises TimeoutError where that takes longer. Nested ones may bound the same wait.

    Like `asyncio.timeout`: by a cancellation of the task, which leaves the block as a TimeoutError. Whoever made it calls
    `close` at the end, or the timer keeps what it knows alive until it rings.
    """

    __slots__ = ("_cancelled", "_due", "_expired", "_loop", "_once", "_task", "_timer", "_timer_at")

    def __init__(self, *, once: bool = False) -> None:
        """`once`: for one wait only, after which it closes itself."""
        self._once = once
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = self._due = 0.0
        self._cancelled = 0
        self._expired = False

    def within(self, seconds: float) -> Patience:
        """`seconds` from now on, for the wait that follows."""
        return self.until(self._loop.time() + seconds)

    def until(self, moment: float) -> Patience:
        """A moment of the loop's clock, for the wait that follows."""
        self._due = moment
        return self

    def end(self) -> None:
        """Whatever is waited for now has taken too long."""
        if self._task is not None and not self._expired:
            self._expire()

    def close(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Patience:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("only a task can be bounded")
        self._task, self._expired = task, False
        self._cancelled = task.cancelling()
        if self._timer is None:
            self._set()
        elif self._due < self._timer_at:
            self._timer.cancel()
            self._set()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task, self._task = self._task, None
        if self._once:
            self.close()
        # Someone else's cancellation of the same moment goes before: it stays one.
        if self._expired and task is not None and task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _set(self) -> None:
        self._timer_at = self._due
        if self._due > self._loop.time():
            self._timer = self._loop.call_at(self._due, self._ring)
        else:  # over before it begins: what is here already may pass, nothing that has to be waited for
            self._timer = self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None or self._expired:
            return
        if self._due > self._loop.time():
            self._set()
        else:
            self._expire()

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()


def within(seconds: float) -> Patience:
    """Bounds one wait."""
    return Patience(once=True).within(seconds)
