"""The fixture `world` (tests/actors.py). A module of its own because pytest loads it before Django has its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.actors import World


@pytest.fixture
def world(db: None) -> World:
    """Undone after the test. A test with committed rows (`committed_db`) calls make_world() itself."""
    from tests.actors import make_world

    return make_world()


@pytest.fixture
def empty_catalogue(db: None) -> None:
    """No provider, model or price, whatever tests with committed rows have left; undone after the test.

    Prices are append-only, so they are not deleted but truncated.
    """
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE proxy_providerkey, proxy_deployment, proxy_model, proxy_provider, billing_priceversion")
