"""A stand-in for providers that somebody else wrote: `aimock` from npm, which speaks the protocols of many of them.

What it answers stands in tests/standins/fixtures.json: whoever asks for the weather is told to call a tool, whoever brings
the tool's result gets a sentence, everybody else a greeting. It keeps what it was asked: `received()`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway_project.embedded.child import Child
from tests import node

FOLDER = Path(__file__).resolve().parent / "standins"
PACKAGE = "@copilotkit/aimock"
START_SECONDS = 30
LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")

QUESTION = "What is the weather in Zürich?"
ARGUMENTS = {"city": "Zürich"}
BEFORE_THE_TOOL, ANSWER, GREETING = "Let me look.", "It is sunny in Zürich, 21 °C.", "Hello from a stand-in 🌞 in Zürich."
# Tokens of input and of output that the two answers of a task with a tool say they took.
USAGE = [(60, 12), (90, 9)]


class Aimock:
    def __init__(self) -> None:
        self.url = ""
        program = FOLDER / "node_modules" / PACKAGE / "dist" / "cli.js"
        self.child = Child(
            "aimock",
            argv=[str(node.NODE), str(program), "--port", "0", "--fixtures", str(FOLDER / "fixtures.json"), "--strict"],
            ready=lambda _: bool(self.url),
            folder=FOLDER,
            variables={"PATH": os.environ.get("PATH", "")},
        )

    def start(self) -> "Aimock":
        self.child.start(self._read)
        self.child.wait_until_ready(seconds=START_SECONDS)
        return self

    def stop(self) -> None:
        self.child.stop(at_once=True)

    def received(self) -> list[dict[str, Any]]:
        """Every request since the last forget(): `path`, `headers`, `body` (in Chat Completions' shape, whatever came)."""
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/__aimock/journal", trust_env=False).raise_for_status().json()
        return found

    def _read(self, _: str, line: str) -> None:
        if found := LISTENING.search(line):
            self.url = found[1]


@pytest.fixture(scope="session")
def aimock() -> Iterator[Aimock]:
    if not node.installed(FOLDER):
        pytest.skip(f"tests against others' stand-in providers need {PACKAGE} from npm: make standins")
    standin = Aimock().start()
    yield standin
    standin.stop()
