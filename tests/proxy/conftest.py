"""Fixtures of the proxy's tests: a scripted provider, a house of one's own, and coroutines that use the shared transport."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pytest_django.plugin import DjangoDbBlocker

from proxy.providers import transport
from tests.upstream import Upstream

if TYPE_CHECKING:
    from tests.house import House

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


@pytest.fixture(scope="module")
def only_new_garbage() -> None:
    """Where garbage is looked for after every test: among what the module's tests make. What hundreds of others have left alive
    takes a third of a second to go through, each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def declared(django_db_setup: None, django_db_blocker: DjangoDbBlocker, scripted_provider: Upstream) -> None:
    """The models that tests call (tests/house.py)."""
    from tests.house import declare_models

    with django_db_blocker.unblock():
        declare_models(scripted_provider.url)


@pytest.fixture
def house(committed_db: None, declared: None, upstream: Upstream) -> "Iterator[House]":
    """An organisation of this test alone, with $1,000 of credit and mia's key; its models answer from `upstream`."""
    from tests.house import build

    built = build()
    yield built
    built.close()
