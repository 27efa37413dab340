"""Everything that runs below one `manage.py up`: started in order, watched, stopped from the callers' end.

A child that ends right after its start is a fault of the installation: everything stops. One that ends later (a crash, the
kernel's out-of-memory killer) is started again; the listening sockets stay open meanwhile, so callers wait instead of failing.
"""

import itertools
import signal
import time
from collections.abc import Callable
from types import FrameType

from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.terminal import Terminal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_ORDER = ("history", "prepare", "web", "celery", "postgres", "valkey")
WATCH_SECONDS = 0.2
SETTLED_SECONDS = 5.0
PAUSE_SECONDS = 0.5


def stop_order(child: Child) -> int:
    """Those who take calls first, those who keep data last."""
    name = child.name.partition("-")[0]
    return STOP_ORDER.index(name) if name in STOP_ORDER else len(STOP_ORDER)


class Stopped(BaseException):
    """Somebody asked us to stop."""


class Tree:
    """`changed` is called with all children whenever a process has been started."""

    def __init__(self, terminal: Terminal, *, changed: Callable[[list[Child]], None]) -> None:
        self.terminal, self.changed = terminal, changed
        self.children: list[Child] = []
        self.began: dict[str, float] = {}
        self.stopping = False

    def start(self, *children: Child) -> None:
        for child in children:
            if child not in self.children:
                self.children.append(child)
            self.began[child.name] = time.monotonic()
            child.start(self.terminal.log)
        self.changed(self.children)

    def watch(self) -> None:
        """Returns never: ends with Stopped, or StartError when a child cannot live."""
        while True:
            for child in list(self.children):
                if (code := child.exit_code) is not None:
                    self._replace(child, code)
            time.sleep(WATCH_SECONDS)

    def stop(self) -> None:
        """Those of one kind together. Meanwhile SIGINT (Ctrl-C) ends everything at once, and the other signals change nothing."""
        self.stopping = True
        for _, kind in itertools.groupby(sorted(self.children, key=stop_order), key=stop_order):
            together = list(kind)
            for child in together:
                child.ask()
            for child in together:
                child.stop()
        self.changed([])

    def listen_for_signals(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _replace(self, child: Child, code: int) -> None:
        if child.once:
            self.children.remove(child)
            child.stop()
            if code:
                self.terminal.log("up", f"{child.name} failed (exit code {code})")
            return
        if not child.was_ready and time.monotonic() - self.began[child.name] < SETTLED_SECONDS:
            raise StartError(f"{child.name} ended right after its start (exit code {code}).{child.last_lines()}")
        self.terminal.log("up", f"{child.name} ended unexpectedly (exit code {code}): starting it again")
        child.stop()
        time.sleep(PAUSE_SECONDS)
        self.start(child)
        child.open_gate()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            raise Stopped
        if number == signal.SIGINT:  # the others come twice by themselves: to each process, and from make to its child again
            for child in self.children:
                child.kill()
