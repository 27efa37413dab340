import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_project.lib import lifespan


@pytest.fixture(autouse=True)
def own_hooks() -> Iterator[None]:
    """The hooks that imports have registered are put aside, and back."""
    kept = lifespan._startup[:], lifespan._shutdown[:]
    lifespan._startup.clear()
    lifespan._shutdown.clear()
    yield
    lifespan._startup[:], lifespan._shutdown[:] = kept


def hook(log: list[str], name: str, *, fails: bool = False) -> lifespan.Hook:
    async def run() -> None:
        log.append(name)
        if fails:
            raise RuntimeError(f"{name} failed")

    return run


def serve() -> list[Any]:
    """One life of a server: what it is told, in order."""
    sent: list[Any] = []
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(incoming)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(lifespan.serve(receive, send))
    return [message["type"] for message in sent]


def test_what_was_opened_last_is_closed_first() -> None:
    log: list[str] = []
    lifespan.on_startup(hook(log, "start"))
    lifespan.on_shutdown(hook(log, "pool"))
    lifespan.on_shutdown(hook(log, "committer"))
    assert serve() == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert log == ["start", "committer", "pool"]


def test_a_failing_start_keeps_the_server_down() -> None:
    log: list[str] = []
    lifespan.on_startup(hook(log, "start", fails=True))
    lifespan.on_shutdown(hook(log, "stop"))
    assert serve() == ["lifespan.startup.failed"]
    assert log == ["start"]


def test_a_failing_closing_does_not_keep_the_others_from_running() -> None:
    log: list[str] = []
    lifespan.on_shutdown(hook(log, "first"))
    lifespan.on_shutdown(hook(log, "second", fails=True))
    assert serve()[-1] == "lifespan.shutdown.complete"
    assert log == ["second", "first"]


def test_a_closing_runs_once() -> None:
    log: list[str] = []
    lifespan.on_shutdown(hook(log, "once"))
    asyncio.run(lifespan.stop())
    asyncio.run(lifespan.stop())
    assert log == ["once"]
