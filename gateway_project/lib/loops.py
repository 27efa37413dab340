"""What each event loop has one of: connections, locks, whatever must not be awaited from another loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """`x = PerLoop(make)`: `x()` is the running loop's own, made when first asked for.

    The loop that asked last is remembered: a process serves on one, and a weak dictionary takes ten times as long.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._all: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
        self._last: tuple[asyncio.AbstractEventLoop | None, T | None] = (None, None)

    def __call__(self) -> T:
        found = self.get()
        return self.put(self._make()) if found is None else found

    def get(self) -> T | None:
        """None where there is none yet."""
        # Looked at once: another thread, where another loop runs, may put its own there at any moment.
        loop, last = asyncio.get_running_loop(), self._last
        if last[0] is not loop:
            last = self._last = (loop, self._all.get(loop))
        return last[1]

    def put(self, value: T) -> T:
        """In place of what there was."""
        loop = asyncio.get_running_loop()
        self._all[loop] = value
        self._last = (loop, value)
        return value

    def pop(self) -> T | None:
        """What there was; from now on there is none."""
        self._last = (None, None)
        return self._all.pop(asyncio.get_running_loop(), None)
