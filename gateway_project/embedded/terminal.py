"""What a person at the terminal sees: steps with their time while starting, then one log with a name before every line."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

NAME_WIDTH = 8


class Terminal:
    """Children's lines come from threads; a lock keeps lines whole."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self.out = out
        self.lock = threading.Lock()
        self.line_open = False

    def say(self, text: str = "") -> None:
        self._write(f"{text}\n")

    def log(self, name: str, line: str) -> None:
        self._write(f"{name:<{NAME_WIDTH}} | {line}\n")

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        """`  label … 1.2 s`: the label at once, the time when the block is through."""
        began = time.monotonic()
        self._write(f"  {label} … ", leave_open=True)
        yield
        took = f"{time.monotonic() - began:.1f} s\n"
        with self.lock:
            text = took if self.line_open else f"  {label}: {took}"
            self.line_open = False
            self._put(text)

    def _write(self, text: str, *, leave_open: bool = False) -> None:
        with self.lock:
            if self.line_open:
                self._put("\n")
            self.line_open = leave_open
            self._put(text)

    def _put(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except (BrokenPipeError, ValueError):
            pass  # whoever was reading has gone; that must not keep anything from being stopped
