"""Fixtures of the proxy's tests: a scripted provider, and coroutines that use the shared transport."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from proxy.providers import transport
from tests.upstream import Upstream

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def scripted_provider() -> Iterator[Upstream]:
    provider = Upstream().start()
    yield provider
    provider.stop()


@pytest.fixture
def upstream(scripted_provider: Upstream) -> Iterator[Upstream]:
    """The scripted provider (tests/upstream.py), with nothing scripted and nothing received."""
    scripted_provider.forget()
    yield scripted_provider
    scripted_provider.forget()


@pytest.fixture
def run() -> Run:
    """Runs a coroutine on a fresh event loop and closes the connections it leaves behind."""

    async def then_close(work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await work
        finally:
            await transport.shutdown()

    return lambda work: asyncio.run(then_close(work))
