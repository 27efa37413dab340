"""Many clients × their protocols × kinds of provider: each does a task with a tool through the gateway (`make test-all`).

The providers are others' (aimock, told by standin.mjs what to say); the clients are the official SDKs, frameworks and agents as
they are installed from PyPI and npm. No part of the ordinary tests, whose files begin with `test_`. A run writes its outcome into
the table of proxy/README.md; a run of some (`make test-all ARGS="-k 'gemini]'"`) leaves the other cells as they were.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_project.embedded.child import Child
from tests import node
from tests.aimock import LISTENING
from tests.campaign.clients import CLIENTS, HERE, SECRET, Client, Setting
from tests.campaign.table import Outcome, write
from tests.gateways import Gateway
from tests.house import House, declare

CLIENT_SECONDS = 240
# Kind → its base URL below the stand-in's, and its options.
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "openai": ("/v1", {}),
    "azure": ("", {}),
    "anthropic": ("", {}),
    "gemini": ("/v1beta", {}),
    "vertex": ("/v1", {"region": "europe-west6", "project": "p"}),
    "bedrock": ("", {"region": "eu-central-2"}),
    "ollama": ("/v1", {}),
    "openrouter": ("/api/v1", {}),
}

pytestmark = pytest.mark.timeout(CLIENT_SECONDS + 30)


@pytest.fixture(scope="session")
def standin() -> Iterator[str]:
    """Where the stand-in listens."""
    found: list[str] = []

    def read(_: str, line: str) -> None:
        found.extend(re.findall(LISTENING, line))

    child = Child(
        "standin", argv=[str(node.NODE), "standin.mjs"], ready=lambda _: bool(found), folder=HERE, variables={"PATH": "/usr/bin"}
    )
    child.start(read)
    child.wait_until_ready(seconds=60)
    yield found[0]
    child.stop(at_once=True)


@pytest.fixture(scope="session")
def outcomes() -> Iterator[list[Outcome]]:
    found: list[Outcome] = []
    yield found
    write(found, clients=CLIENTS, kinds=list(KINDS))


def play(client: Client, setting: Setting) -> tuple[bool, str]:
    """Whether a client did what it was to do, and its last words."""
    try:
        done = subprocess.run(
            client.argv(setting),
            cwd=setting.folder,
            env=client.environment(setting),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        return False, f"not done after {error.timeout:.0f} s"
    said = done.stdout + done.stderr
    return (done.returncode == 0 and client.says in done.stdout), said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: f"{client.name}, {client.protocol}")
def test_a_client_does_its_task(
    gateway: Gateway, house: House, standin: str, outcomes: list[Outcome], tmp_path: Path, client: Client, kind: str
) -> None:
    base, options = KINDS[kind]
    declare(f"campaign-{kind}", kind=kind, url=standin + base, **options)
    (tmp_path / "notes.txt").write_text(f"The word is {SECRET}.\n")
    setting = Setting(folder=tmp_path, url=gateway.url, key=house.key_text, model=f"campaign-{kind}")

    done, said = play(client, setting)

    outcomes.append(Outcome(client, kind, done, said))
    assert done, said
    assert house.nothing_held()
    assert {row.status for row in house.rows()} == {"ok"} or client.suite
