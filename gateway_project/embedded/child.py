"""One process of the tree: started in a process group of its own, its output drained line by line, stopped for certain."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway_project.embedded.errors import StartError
from gateway_project.embedded.places import Account

Write = Callable[[str, str], None]  # (name of the child, one line without its end)

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(number: int) -> None:
    """This process gets the signal of that number when the one that forked it ends, however it does: SIGKILL included. Linux."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, number)


LINES_KEPT = 8
POLL_SECONDS = 0.01


class Child:
    """`ready(pid)` tells when it serves; `once`: it does one thing and ends; lines with `noise` are shown only when it fails.

    A process group of its own keeps the terminal's Ctrl-C away from it: the order of stopping is ours.
    """

    def __init__(
        self,
        name: str,
        *,
        argv: Sequence[str],
        ready: Callable[[int], bool],
        folder: Path,
        variables: Mapping[str, str],
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 10.0,
        descriptors: Sequence[int] = (),
        gated: bool = False,
        once: bool = False,
        noise: re.Pattern[str] | None = None,
    ) -> None:
        self.name, self.argv, self.ready, self.folder, self.variables = name, list(argv), ready, folder, dict(variables)
        self.account, self.stop_signal, self.stop_seconds = account, stop_signal, stop_seconds
        self.descriptors, self.gated, self.once = list(descriptors), gated, once
        self.noise = noise
        self.was_ready = self.was_asked = False
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.process: subprocess.Popen[bytes] | None = None
        self.drain: threading.Thread | None = None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs; a child never started counts as ended."""
        return self.process.poll() if self.process else 0

    def start(self, write: Write) -> None:
        self.was_ready = self.was_asked = False
        self.process = self._begin()
        self.drain = threading.Thread(target=self._drain, args=(self.process, write), name=f"log-{self.name}", daemon=True)
        self.drain.start()

    def _begin(self) -> subprocess.Popen[bytes]:
        switch = self.account if self.account and self.account.switch else None
        return subprocess.Popen(  # noqa: S603 - our own programs
            self.argv,
            stdin=subprocess.PIPE if self.gated else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self.variables,
            user=switch.uid if switch else None,
            group=switch.gid if switch else None,
            extra_groups=[] if switch else None,
            process_group=0,
            pass_fds=self.descriptors,
            preexec_fn=self._end_with_parent,
        )

    def open_gate(self) -> None:
        """Lets a gated child, which has loaded everything meanwhile, go on to serve."""
        if self.process and self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(b"go\n")
                self.process.stdin.flush()

    def wait_until_ready(self, *, seconds: float) -> None:
        """Raises StartError, with the child's last lines, when it ends or stays silent."""
        deadline = time.monotonic() + seconds
        while not self.ready(self.pid):
            if (code := self.exit_code) is not None:
                raise StartError(f"{self.name} ended while starting (exit code {code}).{self.last_lines()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} did not answer within {seconds:.0f} s.{self.last_lines()}")
            time.sleep(POLL_SECONDS)
        self.was_ready = True

    def wait_until_done(self, *, seconds: float) -> None:
        """For a child that does one thing. Raises StartError, with its last lines, when it fails."""
        assert self.process is not None  # noqa: S101 - it has been started
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StartError(f"{self.name} is not done after {seconds:.0f} s.{self.last_lines()}") from None
        if code:
            raise StartError(f"{self.name} failed (exit code {code}).{self.last_lines()}")

    def last_lines(self) -> str:
        if self.drain and self.exit_code is not None:
            self.drain.join(timeout=1)
        return "".join(f"\n  {self.name} | {line}" for line in self.lines)

    def ask(self) -> None:
        """Asks it to end, once, and does not wait; stop() has to follow."""
        if not self.was_asked:
            self.was_asked = True
            self._signal(self.stop_signal)

    def stop(self, *, at_once: bool = False) -> None:
        """Asks, waits, then ends the whole group. Nothing of it is left when this returns."""
        if self.process is None:
            return
        if self.process.poll() is None:
            if at_once:
                self._signal(signal.SIGKILL)
            else:
                self.ask()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.drain:
            self.drain.join(timeout=1)
        self.process = None

    def kill(self) -> None:
        """At once, without waiting; stop() has to follow."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def _end_with_parent(self) -> None:
        end_with_parent(int(self.stop_signal))  # between fork and exec

    def _drain(self, process: subprocess.Popen[bytes], write: Write) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        with process.stdout:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                self.lines.append(line)
                if not (self.noise and self.noise.search(line)):
                    write(self.name, line)
