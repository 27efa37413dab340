"""Web processes of tests, forked from one that has loaded their code: each takes a second of CPU less than one that is started.

What is forked is what `python -m gateway_project.embedded.web` is after its imports: one thread, no connection, nothing that a
test has patched; its memory alone stays in small pages. It reads its settings from an environment of its own, serves on its own
socket, gets signals as every process does and ends by itself. tests/gateway_project/test_forks.py holds it against a process that
was started.

`python -m tests.forks FD` is the process that is forked: it takes requests from the socket FD until the other end closes.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from gateway_project.embedded.child import Child, end_with_parent
from gateway_project.lib import large_pages

ROOT = Path(__file__).resolve().parent.parent
NUMBER = struct.Struct("i")  # the id of the process; when it has ended, its exit code
REQUEST_BYTES, DESCRIPTORS = 1 << 20, 16
# What a web process imports only when its application is made.
EARLY = (
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.websockets.auto",
    "uvicorn.lifespan.on",
    "proxy.playground_routes",
    "proxy.sandbox.app",
    "gateway_project.probes",
)


class Forks:
    """The process that is forked, from its first use on."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Forks:
        """Early, and for every process that is forked from now on."""
        with self.lock:
            self._running()
        return self

    def fork(self, argv: list[str], *, variables: Mapping[str, str], descriptors: list[int]) -> Forked:
        """`argv`: python -m MODULE …, of which `main` is called; `descriptors` keep their numbers."""
        status, theirs = socket.socketpair()
        reading, writing = os.pipe()
        request = json.dumps({"argv": argv[1:], "variables": dict(variables), "descriptors": descriptors}).encode()
        try:
            with self.lock:
                socket.send_fds(self._running(), [request], [theirs.fileno(), writing, *descriptors])
        finally:
            theirs.close()
            os.close(writing)
        return Forked(argv, status=status, output=reading)

    def close(self) -> None:
        if self.requests is not None and self.process is not None:
            self.requests.close()
            self.process.wait()
        self.requests = self.process = None

    def _running(self) -> socket.socket:
        if self.requests is None:
            self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, "-u", "-m", "tests.forks", str(theirs.fileno())]
                self.process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], process_group=0)
        return self.requests


class Forked(subprocess.Popen[bytes]):
    """A process that is another's child: its exit code comes through a socket."""

    def __init__(self, argv: list[str], *, status: socket.socket, output: int) -> None:
        self.args, self.returncode = argv, None
        self.stdin, self.stdout, self.stderr = None, os.fdopen(output, "rb"), None
        self.status, self.asking = status, threading.Lock()
        self.pid = self._number() or self._never_was()

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        with self.asking:
            if self.returncode is None:
                self.status.settimeout(timeout)
                try:
                    number = self._number()
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
                # All are told to end when the process ends that they are forked from.
                self.returncode = -signal.SIGTERM if number is None else number
                self.status.close()
        code: int = self.returncode
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _number(self) -> int | None:
        answer = self.status.recv(NUMBER.size)
        return NUMBER.unpack(answer)[0] if answer else None

    def _never_was(self) -> NoReturn:
        self.status.close()
        raise ChildProcessError("The process that is forked has ended: its last words stand in the output of the tests.")


class ForkedChild(Child):
    """A Child that is forked."""

    def __init__(self, forks: Forks, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.forks = forks

    def _begin(self) -> subprocess.Popen[bytes]:
        return self.forks.fork(self.argv, variables=self.variables, descriptors=self.descriptors)


# --- in the process that is forked --------------------------------------------------------------------------------------------
def main() -> None:
    from gateway_project.embedded import web

    gc.disable()
    web.load_code()
    for module in EARLY:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    request = wait_for_requests(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        become(**request)


def wait_for_requests(requests: socket.socket) -> dict[str, Any] | None:
    """Forks for each of them, and tells how each of these ends. Returns in each with its request, at the end with None."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: its id, and whom to tell
    with requests, selectors.DefaultSelector() as ready:
        ready.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fd in children:
                    ready.unregister(key.fd)
                    tell_end(key.fd, *children.pop(key.fd))
                elif not (received := socket.recv_fds(requests, REQUEST_BYTES, DESCRIPTORS))[0]:
                    return None
                elif (child := begin(received[1])) is None:
                    forget(children)
                    return {**json.loads(received[0]), "received": received[1]}
                else:
                    children[child[0]] = child[1:]
                    ready.register(child[0], selectors.EVENT_READ)


def begin(received: list[int]) -> tuple[int, int, socket.socket] | None:
    """The new process' pidfd, id, and the socket of whoever asked for it; in the new process None."""
    if not (pid := os.fork()):
        return None
    for descriptor in received[1:]:
        os.close(descriptor)
    status = socket.socket(fileno=received[0])
    status.send(NUMBER.pack(pid))
    return os.pidfd_open(pid), pid, status


def tell_end(descriptor: int, pid: int, status: socket.socket) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(descriptor)
    with status, contextlib.suppress(OSError):  # nobody may wait for it any longer
        status.send(NUMBER.pack(code))


def forget(children: dict[int, tuple[int, socket.socket]]) -> None:
    """In a new process: the others are not its children."""
    for descriptor, (_, status) in children.items():
        os.close(descriptor)
        status.close()


def become(*, argv: list[str], variables: dict[str, str], descriptors: list[int], received: list[int]) -> None:
    """What subprocess does between fork and exec, and what Python does then."""
    os.setpgid(0, 0)
    end_with_parent(signal.SIGTERM)
    numbers = [0, 1, 2, *descriptors]
    beyond = max(*numbers, *received) + 1
    sources = [os.open(os.devnull, os.O_RDONLY), received[1], received[1], *received[2:]]
    apart = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, beyond) for source in sources]
    os.closerange(3, beyond)
    for source, number in zip(apart, numbers, strict=True):
        os.dup2(source, number)
        os.close(source)
    os.environ.clear()
    os.environ.update(variables)
    module = importlib.import_module(argv[1])
    sys.argv = [str(module.__file__), *argv[2:]]
    read_settings()
    # To move what it shares with others takes up to a quarter of a second, and most of them serve for one or two.
    vars(large_pages)["use"] = lambda: 0
    module.main()


def read_settings() -> None:
    """From the environment as it is now; what Django has made of those that it had."""
    from django.conf import settings
    from django.core.cache import caches
    from django.db import connections
    from django.utils.functional import empty

    importlib.reload(importlib.import_module("gateway_project.settings"))
    for kept in (connections, caches):
        vars(kept).clear()
        vars(kept).update(vars(type(kept)()))
    settings._wrapped = empty


if __name__ == "__main__":
    main()
