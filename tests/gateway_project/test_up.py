"""`manage.py up` as a person meets it: started in a terminal, refused with a sentence, killed, started again, stopped."""

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway_project.embedded import places
from gateway_project.embedded.lock import StateLock
from gateway_project.embedded.postgres import Postgres

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_INHERITED = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "GATEHOUSE_PEPPER", "GATEHOUSE_KEYS", "DJANGO_SETTINGS_MODULE"}
START_SECONDS = 100.0  # on a busy machine; alone it takes a few


class Terminal:
    """`manage.py up` in a session of its own: whatever it leaves running can be found by that session."""

    def __init__(self, home: Path, *, port: int, **variables: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        self.home, self.port, self.lines = home, port, list[str]()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env={**inherited, "GATEHOUSE_HOME": str(home), "PORT": str(port), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            self.lines.extend(line.rstrip("\n") for line in self.process.stdout)

    def wait_for_end(self, *, seconds: float = 30) -> int:
        code = self.process.wait(seconds)
        self.reader.join(seconds)
        return code

    def wait_until_ready(self) -> None:
        wait_for(lambda: bool(self.found(r"^Ready after ")) or self.process.poll() is not None, seconds=START_SECONDS)
        assert self.process.poll() is None, "\n".join(self.lines)

    def found(self, pattern: str) -> str:
        """The first line that the pattern finds, or nothing; what the pattern's group holds if it has one."""
        matches = (re.search(pattern, line) for line in list(self.lines))
        return next((match.group(match.lastindex or 0) for match in matches if match), "")

    def call(self) -> httpx.Response:
        """The printed call, as printed."""
        words = shlex.split(self.found(r"^Try it +(curl .*)"))
        headers = dict(word.split(": ", 1) for flag, word in itertools.pairwise(words) if flag == "-H")
        return httpx.post(words[1], headers=headers, content=words[words.index("-d") + 1], timeout=START_SECONDS, trust_env=False)

    def pid_of(self, name: str) -> int:
        children = json.loads((self.home / "up.lock").read_text() or "{}").get("children", [])
        return next((pid for child, pid, _ in children if child == name), 0)

    def still_running(self) -> list[str]:
        """Command lines of everything that was started from this terminal and is alive."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                if fields[0] != "Z" and int(fields[3]) == self.process.pid:
                    found.append(stat.with_name("cmdline").read_text().replace("\0", " "))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.wait_for_end(seconds=60)


Open = Callable[..., Terminal]


@pytest.fixture
def home() -> Iterator[Path]:
    """Not below pytest's own 0700 folder: as root, the servers' account has to get through."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-up-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def up(home: Path, port: int) -> Iterator[Open]:
    opened: list[Terminal] = []

    def up(**variables: str) -> Terminal:
        opened.append(Terminal(Path(variables.pop("home", str(home))), port=port, **variables))
        return opened[-1]

    yield up
    for terminal in opened:
        terminal.end()


def refused(terminal: Terminal) -> str:
    """It ended with exit code 1 and left nothing running; the sentence it said last."""
    assert terminal.wait_for_end() == 1
    assert terminal.still_running() == []
    return terminal.lines[-1]


def test_a_taken_port_is_said_before_anything_starts(up: Open, home: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        terminal = up()
        assert refused(terminal) == f"Port {port} is taken by another program: stop it, or choose another with PORT={port + 1}."
    assert len(terminal.lines) == 1
    assert not (home / "servers").exists()


@pytest.mark.parametrize("port", ["http", "0", "70000"])
def test_a_port_that_is_none_is_said(up: Open) -> None:
    assert refused(up()).startswith("PORT has to be a whole number from 1 to 65535")


def test_an_unwritable_folder_is_said(up: Open, home: Path) -> None:
    (home / "file").write_text("")
    terminal = up(home=str(home / "file" / "state"))
    assert re.fullmatch(
        r"The state folder .*file/state cannot be written \(.*\): set GATEHOUSE_HOME to a folder that can\.", refused(terminal)
    )
    assert len(terminal.lines) == 1


def test_a_second_start_on_the_same_folder_is_said(up: Open, home: Path) -> None:
    first = StateLock(home, url="http://127.0.0.1:8000")
    first.acquire()
    try:
        terminal = up()
        assert refused(terminal).startswith(f"Gatehouse already runs on {home} (process {os.getpid()}, http://127.0.0.1:8000)")
    finally:
        first.release()
    assert len(terminal.lines) == 1


def test_a_server_that_does_not_start_is_said_and_nothing_is_left(up: Open, home: Path) -> None:
    Postgres(places.choose(home), password="of an earlier start").prepare()
    with (home / "servers" / "postgres" / "postgresql.conf").open("a") as file:
        file.write("work_mem = 'enormous'\n")
    terminal = up()
    refused(terminal)
    assert terminal.found(r"^postgres ended while starting \(exit code 1\)\.$")
    assert terminal.found(r"work_mem")


def test_given_servers_that_cannot_be_reached_are_named(up: Open) -> None:
    terminal = up(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", REDIS_URL="redis://127.0.0.1:1/0")
    refused(terminal)
    assert terminal.found(r"PostgreSQL \(DATABASE_URL\) cannot be reached")
    assert not (terminal.home / "servers").exists()


def test_ctrl_c_while_starting_leaves_nothing(up: Open, home: Path) -> None:
    terminal = up()
    wait_for(lambda: (home / "servers" / "postgres.new").exists() or (home / "servers" / "postgres").exists(), seconds=60)
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.wait_for_end() == 0
    assert terminal.lines[-1] == "Gatehouse has stopped."
    assert terminal.still_running() == []


@pytest.mark.timeout(300)
def test_a_life_with_crashes(up: Open, port: int) -> None:
    """First start, a call, the web process killed, everything killed, started again with two workers, Ctrl-C."""
    first = up()
    first.wait_until_ready()
    assert first.call().status_code == 200
    web = first.pid_of("web")
    os.kill(web, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{web}").exists())
    assert first.call().status_code == 200  # waits at the socket until the next process serves
    assert first.pid_of("web") not in (0, web)

    first.process.kill()
    first.wait_for_end()
    second = up(WEB_WORKERS="2")
    second.wait_until_ready()
    wait_for(lambda: first.still_running() == [])
    assert second.found(r"^API key +(.*)") == first.found(r"^API key +(.*)") != ""
    assert {second.call().status_code for _ in range(4)} == {200}
    assert {second.pid_of("web-1"), second.pid_of("web-2"), second.pid_of("celery")}.isdisjoint({0})

    os.kill(second.process.pid, signal.SIGINT)
    assert second.wait_for_end() == 0
    assert second.still_running() == []
    socket.create_server(("127.0.0.1", port)).close()


def wait_for(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
