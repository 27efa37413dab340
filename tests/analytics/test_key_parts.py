"""What the key pages load from here: spend and last use, limits on the path, latest calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics import budgets, selectors
from analytics.budgets import Used, limits_on_path, used
from gateway_project.lib import redis
from guardrails import counters, windows
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import ApiKey
from orgs.services.keys import create_api_key
from orgs.services.members import add_member
from proxy.models import Deployment, Model, Provider
from tests.actors import World
from tests.guardrails.books import announced
from tests.ledger_rows import a_call

COST = 3_000_000
DOLLAR = 10**9


def fetch(world: World, name: str, path: str) -> Any:
    client = Client()
    client.force_login(getattr(world, name))
    return client.get(f"/o/{world.acme.slug}/usage/keys/{path}")


def limit_everything(world: World) -> None:
    alice = world.actor("alice")
    set_key_limits(world.key, by=alice, monthly_nano_usd=DOLLAR, rpm=60)
    for name, subject in (("org", world.root), ("group", world.platform), ("member", world.mia), ("aside", world.sales)):
        policy = create_policy(world.acme, name=name, limits=[LimitSpec("budget", "total", 2 * DOLLAR)], by=alice)
        bind(policy, subject=subject, by=alice)


def of_key(world: World) -> list[Used]:
    key = ApiKey.objects.select_related("group__parent__parent__parent__parent", "organization").get(pk=world.key.pk)
    return used(world.acme, limits_on_path(key), now=timezone.now())


def test_every_limit_on_the_path_the_most_specific_first(world: World) -> None:
    limit_everything(world)
    assert [found.limit.level for found in of_key(world)] == ["key", "key", "member", "group", "organization"]


def test_spent_counts_in_each_window(world: World) -> None:
    limit_everything(world)
    month = windows.containing(timezone.now(), "month", "UTC").starts_at
    assert month is not None
    a_call(world.key)
    a_call(world.key, at=month - timedelta(days=1))
    spent = {(found.limit.level, found.limit.window): found.spent for found in of_key(world)}
    assert spent["key", "month"] == COST
    assert spent["organization", "total"] == 2 * COST
    assert spent["key", "minute"] == 0


def test_held_and_recent_requests_come_from_the_counters(world: World) -> None:
    limit_everything(world)
    subject = f"k{world.key.pk}"
    second = int(timezone.now().timestamp())
    redis.client().hset(counters.counter(world.acme.pk, announced(world.acme.pk), subject), "held", 500)
    redis.client().hset(
        counters.rate(world.acme.pk, announced(world.acme.pk), subject),
        mapping={second: 3, second - 90: 8, "sum": 11, "pruned": 1},
    )
    found = {found.limit.window: found for found in of_key(world) if found.limit.level == "key"}
    assert (found["month"].held, found["minute"].spent, found["minute"].unit) == (500, 3, "count")


def test_the_partial_shows_meters(world: World) -> None:
    limit_everything(world)
    a_call(world.key)
    page = fetch(world, "mia", f"{world.key.pk}/limits/").content.decode()
    assert page.count('role="meter"') == 5
    assert "set at the organisation" in page


def test_without_limits_it_says_so(world: World) -> None:
    assert "No limit applies" in fetch(world, "mia", f"{world.key.pk}/limits/").content.decode()


def test_the_nearest_to_its_limit_comes_first() -> None:
    def at(spent: int, held: int = 0, value: int = 100) -> Used:
        return Used(budgets.Bound("k1", "key", "n", "p", "budget", "day", value), spent, held, None)

    full, near, far, zero = at(120), at(50, held=40), at(10), at(0, value=0)
    assert sorted([far, near, full], key=Used.is_further_than) == [full, near, far]
    assert sorted([far, zero], key=Used.is_further_than)[0] == zero


def test_spend_of_the_month_and_last_use(world: World) -> None:
    now = timezone.now()
    month = windows.containing(now, "month", "UTC").starts_at
    assert month is not None
    a_call(world.key, at=month - timedelta(hours=1))
    a_call(world.key, at=now)
    (found,) = selectors.key_use(world.acme.pk, keys=[world.key.pk], since=month, until=now + timedelta(hours=1))
    assert found.spent_nano_usd == COST
    assert found.last_used_at is not None
    assert abs(found.last_used_at - now) < timedelta(seconds=1)


def test_the_cells_are_filled_by_key(world: World) -> None:
    a_call(world.key)
    page = fetch(world, "mia", f"?key={world.key.pk}&key=nonsense&key=999999999").content.decode()
    assert f'id="key-spent-{world.key.pk}"' in page
    assert "$0.0030" in page
    assert page.count("hx-swap-oob") == 2


def test_the_cells_of_members_tell_what_they_used_where_the_viewer_sees_it(world: World) -> None:
    add_member(world.mia, group=world.sales, by=world.actor("alice"))
    elsewhere, _ = create_api_key(world.sales, name="Elsewhere", member=world.mia, by=world.actor("mia"))
    for key in (world.key, elsewhere):
        a_call(key)

    def cells(name: str) -> str:
        client = Client()
        client.force_login(getattr(world, name))
        query = f"member={world.mia.pk}&member={world.noah.pk}&member={world.charlie.pk}&member=x"
        text: str = client.get(f"/o/{world.acme.slug}/usage/members/?{query}").content.decode()
        return text

    assert f'id="member-calls-{world.mia.pk}" hx-swap-oob="true">2<' in cells("alice")
    assert f'id="member-calls-{world.noah.pk}" hx-swap-oob="true">0<' in cells("alice")
    assert f'id="member-calls-{world.mia.pk}" hx-swap-oob="true">1<' in cells("sam")
    assert cells("sam").count("hx-swap-oob") == 2
    assert f"member-calls-{world.charlie.pk}" not in cells("alice")


@pytest.mark.parametrize("name", ["noah", "charlie"])
def test_others_keys_say_nothing(world: World, name: str) -> None:
    a_call(world.key)
    response = fetch(world, name, f"?key={world.key.pk}")
    assert "key-spent" not in response.content.decode()
    assert fetch(world, name, f"{world.key.pk}/limits/").status_code == 404
    assert fetch(world, name, f"{world.key.pk}/calls/").status_code == 404


def test_latest_calls_of_a_key(world: World) -> None:
    for minutes in range(10):
        a_call(world.key, at=timezone.now() - timedelta(minutes=minutes))
    page = fetch(world, "sam", f"{world.key.pk}/calls/").content.decode()
    assert page.count("data-row-link") == 8
    assert f"?key={world.key.pk}&amp;period=30d" in page
    assert "No call has been made" not in page


def test_a_key_never_used_says_so(world: World) -> None:
    assert "No call has been made" in fetch(world, "mia", f"{world.key.pk}/calls/").content.decode()
    assert "never" in fetch(world, "mia", f"?key={world.key.pk}").content.decode()


@pytest.mark.usefixtures("empty_catalogue")
def test_the_first_chat_model_offered(world: World) -> None:
    on, off = (Provider.objects.create(name=name, kind="sandbox", enabled=name == "on") for name in ("on", "off"))
    for name, kind, provider in (("zeta", "chat", off), ("pictures", "image", on), ("yota", "chat", on), ("alpha", "chat", on)):
        Deployment.objects.create(model=Model.objects.create(name=name, kind=kind), provider=provider, upstream_model="x")
    assert selectors.first_chat_model() == "yota"
