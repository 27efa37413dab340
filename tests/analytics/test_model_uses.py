"""Which models were called of late: over rollups and what is not in them yet, as far as each person sees."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from orgs.services.keys import create_api_key
from proxy import model_uses
from proxy.model_uses import Use
from tests.actors import World, make_world
from tests.analytics.test_rollups import roll_up_everything
from tests.ledger_rows import call_row, insert_calls, refused_row


@pytest.fixture
def called(committed_db: None) -> World:
    """Two keys beside each other; half of it is rolled up."""
    world, now = make_world(), timezone.now()
    noahs, _ = create_api_key(world.field, name="his", member=world.noah, by=world.actor("alice"))
    before = [
        *(call_row(world.key, at=now - timedelta(days=3), requested_model="old") for _ in range(2)),
        call_row(world.key, at=now - timedelta(days=3), requested_model="old", status="failed"),
        call_row(world.key, at=now - timedelta(days=40), requested_model="old"),
        call_row(noahs, at=now - timedelta(days=2), requested_model="new"),
    ]
    insert_calls(*before)
    roll_up_everything()
    insert_calls(
        call_row(noahs, at=now, requested_model="old"),
        call_row(world.key, at=now, requested_model="other"),
        refused_row(world.key, at=now, requested_model="old"),
    )
    return world


def test_completed_calls_and_keys_of_each_are_counted_once_the_most_used_first(
    called: World, django_assert_num_queries: Any
) -> None:
    sees = {
        "alice": [Use("old", 3, 2), Use("new", 1, 1)],
        "lena": [Use("old", 2, 1)],
        "mia": [Use("old", 2, 1)],
        "noah": [Use("new", 1, 1), Use("old", 1, 1)],
        "charlie": [],
    }
    for name, expected in sees.items():
        actor = called.actor(name)
        with django_assert_num_queries(1):
            assert model_uses.of_models(["old", "new", "unknown"], actor=actor) == expected, name
        with django_assert_num_queries(0):
            assert model_uses.of_models([], actor=actor) == []
