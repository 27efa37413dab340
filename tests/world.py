"""The fixture `world` (tests/actors.py). A module of its own because pytest loads it before Django has its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

    from tests.actors import World


@pytest.fixture
def world(db: None) -> World:
    """Undone after the test. A test with committed rows (`committed_db`) calls make_world() itself."""
    from tests.actors import make_world

    return make_world()


@pytest.fixture(scope="module")
def lasting_world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """One for all tests of a module, whose own transactions lie inside this one. Not beside `committed_db`.

    A module that wants it says `world = deepcopy(lasting_world)`, so that no test sees what another did to its objects; what
    tests leave in Valkey about the same people, the next one finds.
    """
    from tests.actors import make_world

    with lasting(make_world, django_db_blocker) as made:
        yield made


@contextmanager
def lasting(make: Callable[[], World], django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """In a transaction, which is undone in the end."""
    from django.db import transaction

    around = transaction.atomic()
    with django_db_blocker.unblock():
        around.__enter__()
        made = make()
    yield made
    with django_db_blocker.unblock():
        transaction.set_rollback(True)
        around.__exit__(None, None, None)


@pytest.fixture(scope="module")
def lasting_sessions(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> dict[str, str]:
    """Its people, signed in once: name → what the cookie of a browser holds."""
    from django.conf import settings

    from tests.actors import PEOPLE, signed_in

    with django_db_blocker.unblock():
        return {name: signed_in(lasting_world, name).cookies[settings.SESSION_COOKIE_NAME].value for name in PEOPLE}


@pytest.fixture(scope="module")
def lasting_prices(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> None:
    """Beside the lasting world no provider and no model, and the prices of the list alone."""
    from billing import prices

    with django_db_blocker.unblock():
        _empty_the_catalogue()
        prices.sync()


@pytest.fixture
def empty_catalogue(db: None) -> None:
    """No provider, model or price, whatever tests with committed rows have left; undone after the test."""
    _empty_the_catalogue()


def _empty_the_catalogue() -> None:
    """Prices are append-only, so they are not deleted but truncated."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE proxy_providerkey, proxy_deployment, proxy_model, proxy_provider, billing_priceversion")
