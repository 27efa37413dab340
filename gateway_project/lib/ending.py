"""The end of a web process, as those learn of it who work in it.

Asked for: nothing new is taken on, what runs goes on. Cut, about a second before its time is over: whoever still waits for
others gives up, so that each caller is told in its own shape and what it got is recorded. The server says both
(gateway_project/embedded/web.py); under another one neither is ever said.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

Cutter = Callable[[], int]


class Ending:
    """Of this process."""

    def __init__(self) -> None:
        self.is_asked = self.is_cut = False
        self._cutters: list[Cutter] = []

    def on_cut(self, cutter: Cutter) -> Cutter:
        """To be called in the event loop that serves; says how many calls it has cut. Usable as a decorator."""
        self._cutters.append(cutter)
        return cutter

    def ask(self) -> None:
        self.is_asked = True

    def cut(self) -> None:
        self.is_asked = self.is_cut = True
        calls = sum(cutter() for cutter in self._cutters)
        if calls:
            log.warning("stopping.calls_cut", calls=calls)


ending = Ending()
