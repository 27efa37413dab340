"""Real web processes for tests: uvicorn with gateway_project.asgi on a free port, on the test database."""

import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from gateway_project.embedded.child import Child
from tests import servers
from tests.forks import ForkedChild, Forks

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30


class Gateway:
    """A web process that a test can talk to, kill and start again on the same port (`url` stays)."""

    def __init__(
        self, *, name: str, log: Path, database_url: str, variables: dict[str, str] | None = None, forks: Forks | None = None
    ) -> None:
        """With `forks` it is forked instead of started, where that can be."""
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self.listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        child = functools.partial(ForkedChild, forks) if forks and sys.platform == "linux" else Child
        self.child: Child = child(
            name,
            argv=[sys.executable, "-m", "gateway_project.embedded.web", "--fd", str(self.listening.fileno())],
            ready=lambda _: self.answers(),
            folder=ROOT,
            variables={
                **os.environ,
                "DATABASE_URL": database_url,
                "PORT": str(self.port),
                "PYTHONUNBUFFERED": "1",
                "SHUTDOWN_SECONDS": "5",  # less than we wait for it
                **(variables or {}),
            },
            descriptors=[self.listening.fileno()],
        )

    @property
    def pid(self) -> int:
        return self.child.pid

    def start(self) -> "Gateway":
        self.child.start(self._write)
        self.child.wait_until_ready(seconds=START_SECONDS)
        return self

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer would. Callers that connect meanwhile wait for the next start()."""
        self.child.stop(at_once=True)

    def stop(self) -> None:
        """As a deployment would: calls in flight are finished. The port is given back: this gateway cannot start again."""
        self.child.stop()
        self.listening.close()

    def answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/livez", timeout=1, trust_env=False).status_code == 200
        return False

    def logged(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def _write(self, _: str, line: str) -> None:
        with self.log.open("a") as file:
            file.write(line + "\n")


def database_url_of_tests() -> str:
    """DATABASE_URL with the name that pytest-django gave the test database."""
    from django.db import connection

    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}"))


@pytest.fixture(scope="session")
def forks(pytestconfig: pytest.Config) -> Iterator[Forks]:
    """One for all processes of a run that is spread."""
    shared = pytestconfig.stash.get(servers.FORKS, None)
    forks = shared or Forks()
    yield forks
    if forks is not shared:
        forks.close()


@contextlib.contextmanager
def starting(folders: pytest.TempPathFactory, forks: Forks) -> Iterator[Callable[..., Gateway]]:
    """What `start_gateway` is; at the end they all stop."""
    started: list[Gateway] = []

    def start(name: str, **variables: str) -> Gateway:
        log, address = folders.mktemp(name) / "log.txt", database_url_of_tests()
        started.append(Gateway(name=name, log=log, database_url=address, variables=variables, forks=forks))
        return started[-1].start()

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="module")
def start_gateway(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory, forks: Forks
) -> Iterator[Callable[..., Gateway]]:
    """`start_gateway("name", SETTING="value", …)`: one more web process, with settings of its own, until the module's end."""
    with starting(tmp_path_factory, forks) as start:
        yield start


@pytest.fixture(scope="module")
def gateway(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Gateway]:
    """The web process that a module's tests share. A test that kills it starts it again.

    One that a whole run shares would cost more: a worker that has nothing to do wakes each second, and is mostly waited for.
    """
    with starting(tmp_path_factory, forks) as start:
        yield start("gateway")


@pytest.fixture(scope="module")
def second_gateway(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Gateway]:
    """A second worker beside `gateway`, on the same database and Valkey."""
    with starting(tmp_path_factory, forks) as start:
        yield start("second-gateway")
