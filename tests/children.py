"""Programs of this project that tests run to their end, forked where they can be (tests/forks.py): a second of CPU less each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.forks import ForkedChild, Forks

ROOT = Path(__file__).resolve().parent.parent
SHARED = "GATEHOUSE_TEST_FORKS"  # where a program that was forked asks for more: the descriptor of that socket


def run(forks: Forks, *arguments: str, variables: Mapping[str, str], seconds: float, shares: bool = False) -> tuple[int, str]:
    """`python ARGUMENTS` (-m MODULE …) → exit code, and what it wrote. With `shares` it forks where this process does."""
    command = [sys.executable, *arguments]
    if sys.platform != "linux":
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        return ended.returncode, ended.stdout
    requests = [forks._running().fileno()] if shares else []
    shared = {SHARED: str(requests[0])} if shares else {}
    child = ForkedChild(
        forks,
        arguments[-1],
        argv=command,
        ready=lambda _: True,
        folder=ROOT,
        variables={**variables, **shared},
        descriptors=requests,
    )
    lines: list[str] = []
    child.start(lambda _, line: lines.append(line))
    assert child.process is not None
    assert child.drain is not None
    try:
        code = child.process.wait(seconds)
        child.drain.join()
    finally:
        child.stop(at_once=True)
    return code, "\n".join(lines)


def forks_of_this_process() -> Forks:
    """Those of the process that has forked this one, if it shares them, or its own."""
    forks = Forks()
    if number := os.environ.get(SHARED):
        forks.requests = socket.socket(fileno=int(number))
    return forks
