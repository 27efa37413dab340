"""The stage of a benchmark: a throwaway installation, a provider that costs nothing, one web process to measure.

Everything runs on this machine, in a folder that is removed afterwards. The web process has one core to
itself, all others share the rest, as far as the system lets us say so.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway_project import environment
from gateway_project.bench.processes import pinned
from gateway_project.embedded import places
from gateway_project.embedded.child import Child
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.valkey import Valkey

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0


@dataclass
class Stage:
    """`web` is the process that is measured; `url` ends in /v1, like `upstream_url`, which answers without a gateway."""

    url: str
    upstream_url: str
    key: str
    model: str
    web: Child
    variables: dict[str, str]


@contextmanager
def stage() -> Iterator[Stage]:
    """Raises embedded.errors.StartError where something does not start."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="gatehouse-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        gateway, upstream = _free_port(), _free_port()
        variables = {
            **os.environ,
            **environment.generate_secrets(),
            "GATEHOUSE_HOME": str(folder),
            "PORT": str(gateway),
            "LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
        }
        _start_servers(stack, folder, variables)
        others, own = pinned()
        _python(
            stack, "provider", "gateway_project.bench.upstream", str(upstream), port=upstream, variables=variables, cpus=others
        )
        key = _prepare(variables, upstream_url=f"http://127.0.0.1:{upstream}/v1")
        web = _python(stack, "web", "gateway_project.bench.web", str(gateway), port=gateway, variables=variables, cpus=own)
        yield Stage(
            f"http://127.0.0.1:{gateway}/v1", f"http://127.0.0.1:{upstream}/v1", key, "bench", web=web, variables=variables
        )


def _start_servers(stack: ExitStack, folder: Path, variables: dict[str, str]) -> None:
    """As an installation has them: durable, not the fast settings of tests."""
    place = places.choose(folder)
    postgres, valkey = Postgres(place, password=secrets.token_urlsafe(16)), Valkey(place)
    postgres.prepare()
    for server in (postgres, valkey):
        _run(stack, server.child())
    variables |= {"DATABASE_URL": postgres.url(), "REDIS_URL": valkey.url()}


def _python(stack: ExitStack, name: str, *words: str, port: int, variables: dict[str, str], cpus: str) -> Child:
    pin = ["taskset", "-c", cpus] if cpus and shutil.which("taskset") else []
    argv = [*pin, sys.executable, "-m", *words]
    child = Child(name, argv=argv, ready=lambda _: _listens(port), folder=ROOT, variables=variables)
    return _run(stack, child)


def _run(stack: ExitStack, child: Child) -> Child:
    child.start(lambda _, __: None)
    stack.callback(child.stop)
    child.wait_until_ready(seconds=START_SECONDS)
    return child


def _prepare(variables: dict[str, str], *, upstream_url: str) -> str:
    """Schema, organisation, limits and model → the API key."""
    words = [sys.executable, "-m", "gateway_project.bench.prepare", upstream_url]
    done = subprocess.run(words, env=variables, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip().splitlines()[-1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
