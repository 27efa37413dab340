"""A web process that listens where it is told, as a company runs it."""

import argparse
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from gateway_project.embedded import web
from tests.forks import Forks
from tests.gateways import ROOT, database_url_of_tests
from tests.house import eventually


@pytest.mark.parametrize(("place", "family"), [("127.0.0.1:0", socket.AF_INET), ("[::1]:0", socket.AF_INET6)])
def test_several_may_listen_at_one_place(place: str, family: socket.AddressFamily) -> None:
    with closing(web.socket_at(place)) as first:
        address, port, *_ = first.getsockname()
        with closing(web.socket_at(f"{place.rpartition(':')[0]}:{port}")) as second:
            assert (second.family, second.getsockname()[:2]) == (family, (address, port))


@pytest.mark.parametrize("place", ["8000", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "192.0.2.1:0", ""])
def test_a_place_that_is_none_is_said(place: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"cannot be listened at|is no ADDRESS:PORT"):
        web.socket_at(place)


def test_an_address_without_its_brackets_is_shown_with_them() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"brackets, as in \[::1\]:8000$"):
        web.socket_at("::1:8000")


def test_it_says_what_is_missing() -> None:
    told = subprocess.run([sys.executable, "-m", "gateway_project.embedded.web"], cwd=ROOT, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (2, "")
    assert "--fd --listen is required" in told.stderr


def test_the_next_version_begins_before_this_one_ends(committed_db: None, forks: Forks) -> None:
    """This one is forked, which is quick; the next is started as a company starts it."""
    with closing(web.socket_at("127.0.0.1:0")) as bound:
        port: int = bound.getsockname()[1]
    this, following = Process(port), Process(port)
    try:
        this.begin(forks)
        assert eventually(lambda: answers(port), seconds=30)
        following.begin()
        assert eventually(lambda: listeners(port) == 2, seconds=30)
        this.end()
        assert {answers(port) for _ in range(5)} == {True}
    finally:
        this.end()
        following.end()
    assert listeners(port) == 0


class Process:
    def __init__(self, port: int) -> None:
        self.command = [sys.executable, "-m", "gateway_project.embedded.web", "--listen", f"127.0.0.1:{port}"]
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self, forks: Forks | None = None) -> None:
        variables = {**os.environ, "DATABASE_URL": database_url_of_tests()}
        if forks is None:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=variables)
        else:
            self.process = forks.fork(self.command, variables=variables, descriptors=[])

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            if self.process.stdout is not None:
                self.process.stdout.close()


def listeners(port: int) -> int:
    """How many sockets take connections there: of /proc/net/tcp the state 0A."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
