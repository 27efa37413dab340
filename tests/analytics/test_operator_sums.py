"""The operator's list of organisations: this month's sums by UTC, as far as they are rolled up, and of each its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import unescape

from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from analytics.operator_selectors import organization_rows
from billing import adjusting
from orgs.services.organizations import change_settings
from tests.actors import World, make_world, operator
from tests.analytics.test_rollups import roll_up_everything
from tests.ledger_rows import call_row, insert_calls, refused_row

CENT = 10**7


def sums(world: World) -> list[tuple[int, int]]:
    return [(row.spent_nano_usd, row.calls) for row in organization_rows([world.acme, world.other])]


def test_the_month_begins_at_midnight_utc_wherever_the_organisation_is(
    committed_db: None, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    world, month = make_world(), datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    change_settings(world.acme, by=world.actor("alice"), time_zone="Asia/Kathmandu")
    taken = call_row(world.key, at=month + timedelta(minutes=1), charged_nano_usd=8 * CENT)
    insert_calls(
        call_row(world.key, at=month - timedelta(microseconds=1), charged_nano_usd=CENT),
        call_row(world.key, at=month, charged_nano_usd=2 * CENT),
        call_row(world.key, at=month + timedelta(minutes=59), charged_nano_usd=4 * CENT),
        taken,
        adjusting.taken_back(taken),
        refused_row(world.key, at=month, call_count=30),
    )
    assert sums(world) == [(0, 0), (0, 0)], "what is not rolled up yet comes some seconds later"
    roll_up_everything()
    with django_assert_num_queries(2):
        assert sums(world) == [(6 * CENT, 33), (0, 0)]


def test_the_page_shows_them_to_the_operator_alone(committed_db: None) -> None:
    world = make_world()
    insert_calls(call_row(world.key, charged_nano_usd=1234 * CENT))
    roll_up_everything()
    client, address = Client(), reverse("platform:organizations")
    client.force_login(operator().user)
    page = unescape(client.get(address, {"q": world.acme.slug}).content.decode())
    assert "$12.34" in page
    client.force_login(world.alice)
    assert client.get(address).status_code == 404
