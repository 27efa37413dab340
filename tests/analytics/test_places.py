"""Spend of groups and applications: by the path of each call's time, and nothing out of sight."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from analytics import places
from analytics.filters import Scope
from analytics.rollups import roll_up_usage
from orgs.services.keys import create_api_key
from orgs.services.moves import move_group
from tests.actors import World, signed_in
from tests.ledger_rows import call_row, insert_calls
from tests.orgs.test_group_pages import shown

DOLLAR = 10**9
NOW = timezone.now()
PERIOD = {"since": NOW - timedelta(days=1), "until": NOW + timedelta(days=1)}


def spent(world: World, name: str, **period: object) -> dict[str, int]:
    found = places.spent_by_group(Scope.of(world.actor(name)), **(period or PERIOD))
    names = dict(world.acme.groups.values_list("pk", "name"))
    return {names[pk]: nano // DOLLAR for pk, nano in found.items() if names[pk] != world.acme.name}


def test_a_moved_groups_spend_stays_under_the_path_of_its_time(world: World) -> None:
    insert_calls(call_row(world.key, charged_nano_usd=3 * DOLLAR))
    move_group(world.gateway, to=world.sales, by=world.actor("alice"))
    world.key.refresh_from_db()
    insert_calls(call_row(world.key, charged_nano_usd=4 * DOLLAR))
    expected = {"engineering": 3, "platform": 3, "gateway": 7, "sales": 4}
    assert spent(world, "alice") == expected
    roll_up_usage()
    assert spent(world, "alice") == expected
    # Lena sees what was spent while the group was hers.
    assert spent(world, "lena") == {"engineering": 3, "platform": 3, "gateway": 3}


def test_other_months_and_other_organisations_are_left_out(world: World) -> None:
    insert_calls(call_row(world.key, at=NOW - timedelta(days=40)))
    assert spent(world, "alice") == {}
    assert spent(world, "charlie") == {}


def test_an_applications_use_is_told_by_feature_and_environment(world: World) -> None:
    key, _ = create_api_key(world.platform, name="n", application=world.assistant, environment="staging", by=world.actor("sam"))
    insert_calls(
        call_row(key, feature="chat", charged_nano_usd=DOLLAR),
        call_row(key, feature="chat", charged_nano_usd=DOLLAR),
        call_row(key, charged_nano_usd=5 * DOLLAR),
    )
    scope = Scope.of(world.actor("sam"))
    assert places.spent_by_application(scope, **PERIOD) == {world.assistant.pk: 7 * DOLLAR}
    use = places.application_use(scope, application=world.assistant.pk, **PERIOD)
    assert (use.total.charged, use.total.calls, use.total.tokens) == (7 * DOLLAR, 3, 4500)
    assert [(one.label, one.charged, one.calls) for one in use.features] == [("", 5 * DOLLAR, 1), ("chat", 2 * DOLLAR, 2)]
    assert [(one.label, one.charged) for one in use.environments] == [("staging", 7 * DOLLAR)]
    empty = places.application_use(Scope.of(world.actor("charlie")), application=world.assistant.pk, **PERIOD)
    assert (empty.total.calls, empty.features) == (0, [])


def test_the_cells_of_the_lists_are_filled_by_their_ids(world: World) -> None:
    insert_calls(call_row(world.key, charged_nano_usd=3 * DOLLAR))
    client = signed_in(world, "sam")
    text = shown(client.get(f"/o/{world.acme.slug}/usage/groups/"))
    assert f'id="group-spent-{world.gateway.pk}" hx-swap-oob="true" title="$3">$3.00</span>' in text
    assert f"group-spent-{world.engineering.pk}" not in text
    text = shown(client.get(f"/o/{world.acme.slug}/usage/applications/"))
    assert f'id="application-spent-{world.assistant.pk}" hx-swap-oob="true" title="$0">$0.00</span>' in text
    assert ">Calls<" in shown(client.get(f"/o/{world.acme.slug}/usage/applications/{world.assistant.pk}/"))
