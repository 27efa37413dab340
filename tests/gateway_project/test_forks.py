"""A process that is forked (tests/forks.py) is what a process that is started is."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_project.embedded.child import Child
from tests.forks import ForkedChild, Forks

ROOT = Path(__file__).resolve().parent.parent.parent
# Settings unlike those of the process that is forked, of every kind that something is made of while code is loaded.
OWN = {
    "DATABASE_URL": "postgresql://somebody:secret@192.0.2.1:7/elsewhere",
    "REDIS_URL": "redis://192.0.2.1:6380/5",
    "PUBLIC_URL": "https://gatehouse.example",
    "LOG_LEVEL": "DEBUG",
    "LOG_JSON": "1",
    "PORT": "4321",
    "SECRET_KEY": "a-secret-of-its-own",
    "TRUSTED_PROXIES": "192.0.2.0/24",
    "MAX_BODY_BYTES": "77",
    "EMAIL_HOST": "mail.example",
    "GITHUB_CLIENT_ID": "one",
    "GITHUB_CLIENT_SECRET": "two",
    "PYTHONUNBUFFERED": "1",
    "NOBODY_READS": "this: ünïcode",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when another's child ends")


@pytest.fixture(scope="module")
def told(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each of the two says of itself, its exit code and its lines."""
    folder, found = tmp_path_factory.mktemp("told"), {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for name in ("started", "forked"):
            options: dict[str, Any] = {
                "argv": [sys.executable, "-m", "tests.gateway_project.process_told", str(folder / "told.json"), "--and", "words"],
                "ready": lambda _: True,
                "folder": ROOT,
                "variables": {**os.environ, **OWN},
                "descriptors": [listening.fileno()],
            }
            child = ForkedChild(forks, name, **options) if name == "forked" else Child(name, **options)
            lines: list[str] = []
            child.start(lambda _, line, lines=lines: lines.append(line))  # type: ignore[misc]
            assert child.process is not None
            assert child.drain is not None
            code = child.process.wait(60)
            child.drain.join()
            child.stop()
            found[name] = {**json.loads((folder / "told.json").read_text()), "code": code, "lines": lines}
    return found


ALIKE = ("settings", "database", "cache", "logging", "variables", "words", "group", "threads", "signals", "code", "lines")


@pytest.mark.parametrize("what", ALIKE)
def test_a_forked_process_says_of_itself_what_a_started_one_says(told: dict[str, dict[str, Any]], what: str) -> None:
    assert told["forked"][what] == told["started"][what]
    assert told["forked"][what] not in ("", {}, None)


def test_it_has_the_same_files_open(told: dict[str, dict[str, Any]]) -> None:
    open_files = [[name.split("[")[0] for name in told[kind]["descriptors"]] for kind in ("started", "forked")]

    assert open_files[0] == open_files[1]
    assert open_files[0].count("socket:") == 1  # the one that listens


def test_its_settings_are_its_own(told: dict[str, dict[str, Any]]) -> None:
    assert "192.0.2.1" in told["forked"]["database"]
    assert told["forked"]["settings"]["LOG_LEVEL"] == "'DEBUG'"
    assert told["forked"]["code"] == 3
    assert told["forked"]["lines"] == ["written", "the last words"]


@pytest.fixture
def waiting(forks: Forks) -> Iterator[ForkedChild]:
    child = started_waiting(forks)
    yield child
    child.stop(at_once=True)


def started_waiting(forks: Forks) -> ForkedChild:
    """It does nothing until a signal comes."""
    child: ForkedChild = ForkedChild(
        forks,
        "waiting",
        argv=[sys.executable, "-m", "tests.gateway_project.process_told", "-"],
        ready=lambda _: "waiting" in child.lines,
        folder=ROOT,
        variables=dict(os.environ),
    )
    child.start(lambda _, __: None)
    child.wait_until_ready(seconds=60)
    return child


def test_one_that_is_killed_is_gone_and_told_so(waiting: ForkedChild) -> None:
    pid, process = waiting.pid, waiting.process
    assert waiting.exit_code is None
    assert process is not None

    waiting.stop(at_once=True)

    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_is_told_to_end_by_a_signal(waiting: ForkedChild) -> None:
    process = waiting.process
    assert process is not None

    waiting.stop()

    assert process.returncode == -signal.SIGTERM


def test_others_live_on_when_one_ends(forks: Forks, waiting: ForkedChild) -> None:
    another = started_waiting(forks)

    another.stop(at_once=True)

    assert waiting.exit_code is None
    started_waiting(forks).stop()  # and more can come


def test_when_nobody_is_there_to_ask_for_more_they_end() -> None:
    """As where the tests themselves are killed."""
    forks = Forks()
    child = started_waiting(forks)

    forks.close()

    assert child.drain is not None
    child.drain.join(30)  # the other end of its output closes with it
    assert not child.drain.is_alive()
    assert child.exit_code == -signal.SIGTERM
    child.stop()
