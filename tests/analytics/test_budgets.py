"""Budgets as pages show them: who sees which, what counts in which window, and what is known where Redis says nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest

from analytics.budgets import Bound, Used, budgets_visible_to, limits_on_path, pool_of, used
from analytics.filters import Filters
from billing import credits
from gateway_project.lib import redis
from guardrails import counters
from guardrails.models import Binding, Limit, Override, Policy
from guardrails.services.bindings import bind
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import ApiKey
from orgs.services.keys import create_api_key, revoke_key
from orgs.services.organizations import change_settings
from tests.actors import World, signed_in
from tests.guardrails.books import announced
from tests.ledger_rows import a_call, call_row, insert_calls

NOW = datetime(2026, 11, 20, 16, 25, tzinfo=UTC)
COST = 3_000_000
DOLLAR = 10**9


def budget(
    world: World, subject: Any, *, name: str = "P", window: str = "month", value: int = DOLLAR, kind: str = "budget"
) -> None:
    alice = world.actor("alice")
    spec = LimitSpec(kind, window, value)
    bind(create_policy(world.acme, name=name, limits=[spec], by=alice), subject=subject, by=alice)


def bound(**fields: Any) -> Bound:
    given = {
        "subject": "k1",
        "level": "key",
        "node": "K",
        "policy": "P",
        "kind": "budget",
        "window": "month",
        "value": 10,
        **fields,
    }
    return Bound(**given)


@pytest.fixture
def everywhere(world: World) -> World:
    for name in ("root", "engineering", "platform", "gateway", "sales", "mia", "noah", "key", "assistant"):
        budget(world, getattr(world, name), name=name)
    return world


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("alice", {"root", "engineering", "platform", "gateway", "sales", "mia", "noah", "key", "assistant"}),
        ("lena", {"engineering", "platform", "gateway", "key", "assistant"}),
        ("sam", {"platform", "gateway", "key", "assistant"}),
        ("mia", {"gateway", "mia", "key"}),
        ("noah", {"noah"}),
    ],
)
def test_each_person_sees_the_budgets_that_concern_it(everywhere: World, name: str, seen: set[str]) -> None:
    assert {limit.policy for limit in budgets_visible_to(everywhere.actor(name))} == seen


@pytest.mark.parametrize(
    ("name", "wanted", "seen"),
    [
        ("alice", {"group": "root"}, {"root", "engineering", "platform", "gateway", "sales", "mia", "noah", "key", "assistant"}),
        ("alice", {"group": "platform"}, {"platform", "gateway", "mia", "key", "assistant"}),
        ("alice", {"group": "sales"}, {"sales", "noah"}),
        ("alice", {"member": "mia"}, {"mia", "key"}),
        ("alice", {"member": "noah", "group": "platform"}, set()),
        ("sam", {"group": "sales"}, set()),
        ("sam", {"member": "mia"}, {"key"}),
        ("mia", {"group": "gateway"}, {"gateway", "mia", "key"}),
    ],
)
def test_a_group_or_a_member_in_the_filters_narrows_them(
    everywhere: World, name: str, wanted: dict[str, str], seen: set[str]
) -> None:
    filters = Filters(**{field: getattr(everywhere, of).pk for field, of in wanted.items()})
    found = [limit.policy for limit in budgets_visible_to(everywhere.actor(name), filters=filters)]
    assert sorted(found) == sorted(seen)


def test_ones_own_default_stands_there_unless_others_are_looked_at(world: World) -> None:
    give(world, world.engineering, "members")
    mia = world.actor("mia")
    assert len(budgets_visible_to(mia, filters=Filters(member=world.mia.pk))) == 1
    assert budgets_visible_to(mia, filters=Filters(member=world.noah.pk)) == []


def test_the_overview_asks_for_them_with_its_own_filters(everywhere: World) -> None:
    client, base = signed_in(everywhere, "alice"), f"/o/{everywhere.acme.slug}/"
    page = client.get(f"{base}?group={everywhere.sales.pk}&period=7d").content.decode()
    [address] = re.findall(r'hx-get="([^"]*/usage/limits/[^"]*)"', page)
    used = [one.limit.policy for one in client.get(unescape(address)).context["budgets"]]
    assert sorted(used) == ["noah", "sales"]


def test_another_organisations_budgets_are_never_among_them(everywhere: World) -> None:
    assert budgets_visible_to(everywhere.actor("charlie")) == []


def test_a_budget_is_listed_once_however_many_reasons_there_are_to_see_it(everywhere: World) -> None:
    for name in ("alice", "sam", "mia"):
        limits = budgets_visible_to(everywhere.actor(name))
        assert len(limits) == len(set(limits))


def test_a_revoked_keys_budget_is_no_longer_shown_but_still_on_its_path(everywhere: World) -> None:
    revoke_key(everywhere.key, by=everywhere.actor("alice"))
    assert "key" not in {limit.policy for limit in budgets_visible_to(everywhere.actor("mia"))}
    assert "key" in {limit.policy for limit in limits_on_path(ApiKey.objects.get(pk=everywhere.key.pk))}


def test_rates_are_no_budgets(world: World) -> None:
    budget(world, world.key, name="rate", kind="rpm", window="minute", value=60)
    assert budgets_visible_to(world.actor("alice")) == []
    assert [limit.kind for limit in limits_on_path(world.key)] == ["rpm"]


def test_the_path_of_an_applications_key_passes_its_budget(everywhere: World) -> None:
    key, _ = create_api_key(
        everywhere.platform, name="App", application=everywhere.assistant, environment="staging", features=["chat"],
        by=everywhere.actor("alice"),
    )  # fmt: skip
    assert [limit.policy for limit in limits_on_path(key)] == ["assistant", "platform", "engineering", "root"]
    assert {limit.level for limit in limits_on_path(key)} == {"application", "group", "organization"}


@pytest.mark.parametrize(
    ("zone", "hours", "today"),
    [
        ("UTC", 16, True),
        ("UTC", 17, False),
        ("Asia/Kolkata", 21, True),
        ("Asia/Kolkata", 22, False),
        ("America/Los_Angeles", 8, True),
        ("America/Los_Angeles", 9, False),
    ],
)
def test_a_day_begins_at_the_organisations_midnight(world: World, zone: str, hours: int, today: bool) -> None:
    change_settings(world.acme, by=world.actor("alice"), time_zone=zone)
    budget(world, world.key, window="day")
    a_call(world.key, at=NOW - timedelta(hours=hours))
    (found,) = used(world.acme, limits_on_path(world.key), now=NOW)
    assert found.spent == (COST if today else 0)
    assert found.resets_at is not None
    assert NOW < found.resets_at <= NOW + timedelta(days=1)


def test_each_subject_counts_its_own_calls_exactly(everywhere: World) -> None:
    other, _ = create_api_key(everywhere.field, name="S", member=everywhere.noah, by=everywhere.actor("alice"))
    insert_calls(*(call_row(everywhere.key, at=NOW) for _ in range(3)), *(call_row(other, at=NOW) for _ in range(2)))
    limits = budgets_visible_to(everywhere.actor("alice"))
    spent = {found.limit.policy: found.spent // COST for found in used(everywhere.acme, limits, now=NOW)}
    assert spent == {
        "root": 5, "engineering": 3, "platform": 3, "gateway": 3, "sales": 2, "mia": 3, "noah": 2, "key": 3, "assistant": 0,
    }  # fmt: skip


def test_without_limits_nothing_is_asked(world: World, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert used(world.acme, [], now=NOW) == []


def test_any_number_of_budgets_takes_one_statement(everywhere: World, django_assert_num_queries: Any) -> None:
    limits = budgets_visible_to(everywhere.actor("alice"))
    with django_assert_num_queries(1):
        assert len(used(everywhere.acme, limits, now=NOW)) == 9


def test_the_credit_pool_is_all_that_was_ever_funded(world: World) -> None:
    credits.top_up(world.acme, amount_nano_usd=5 * DOLLAR, reference="a", by=world.alice)
    credits.adjust(world.acme, amount_nano_usd=-DOLLAR, reference="b", note="too much", by=world.alice)
    a_call(world.key, at=NOW)
    pool = pool_of(world.acme)
    assert (pool.subject, pool.value, pool.level) == ("pool", 4 * DOLLAR, "credit pool")
    (found,) = used(world.acme, [pool], now=NOW)
    assert (found.spent, found.resets_at) == (COST, None)


def test_what_is_held_is_shown_beside_what_was_spent(world: World) -> None:
    budget(world, world.key)
    redis.client().hset(
        counters.counter(world.acme.pk, announced(world.acme.pk), f"k{world.key.pk}"), mapping={"held": 7, "spent": 999}
    )
    a_call(world.key, at=NOW)
    (found,) = used(world.acme, limits_on_path(world.key), now=NOW)
    assert (found.spent, found.held) == (COST, 7)  # spent is the ledger's, whatever the counter says


def test_without_redis_the_ledgers_figures_are_shown_all_the_same(world: World) -> None:
    budget(world, world.key)
    a_call(world.key, at=NOW)
    name = counters.counter(world.acme.pk, announced(world.acme.pk), f"k{world.key.pk}")
    redis.client().delete(name)
    redis.client().set(name, "of another kind")  # what is asked of it is an error in Redis
    (found,) = used(world.acme, limits_on_path(world.key), now=NOW)
    redis.client().delete(name)
    assert (found.spent, found.held) == (COST, 0)


@pytest.mark.parametrize(
    ("window", "label"),
    [("day", "K · today"), ("month", "K · this month"), ("total", "K · in total"), ("minute", "K · per minute")],
)
def test_a_limit_is_named_by_its_node_and_window(window: str, label: str) -> None:
    assert Used(bound(window=window), 0, 0, None).label == label


@pytest.mark.parametrize(
    ("level", "where"),
    [("organization", "the organisation"), ("key", "the key"), ("group", "the group"), ("member", "the member")],
)
def test_the_node_that_decides_is_told_in_words(level: str, where: str) -> None:
    assert Used(bound(level=level), 0, 0, None).where == where


def test_those_that_are_full_come_first_then_the_fullest() -> None:
    def of(name: str, spent: int, held: int, value: int) -> Used:
        return Used(bound(node=name, value=value), spent, held, None)

    budgets = [of("half", 5, 0, 10), of("none", 0, 0, 10), of("full", 4, 6, 10), of("over", 30, 0, 10), of("closed", 0, 0, 0)]
    assert [found.limit.node for found in sorted(budgets, key=Used.is_further_than)] == ["over", "full", "closed", "half", "none"]


# --- every kind, defaults, overrides -------------------------------------------------------------
KINDS = [("rpm", "minute"), ("tpm", "minute"), ("rpd", "day"), ("parallel", "now"), ("max_tokens", "call")]


def give(world: World, group: Any, reach: str, *, name: str = "D", value: int = DOLLAR) -> Policy:
    """A default budget of what lies below a group."""
    policy = create_policy(world.acme, name=name, limits=[LimitSpec("budget", "month", value)], by=world.actor("alice"))
    Binding.objects.create(policy=policy, organization=world.acme, group=group, reach=reach)
    return policy


def override(world: World, limit: Limit, kind: str, amount: int, **subject: Any) -> None:
    Override.objects.create(
        organization=world.acme, limit=limit, kind=kind, amount=amount, created_by=world.alice,
        starts_at=NOW - timedelta(days=400), until=datetime(2100, 1, 1, tzinfo=UTC), **subject,
    )  # fmt: skip


def test_every_kind_is_counted_in_its_own_unit(world: World) -> None:
    for kind, window in KINDS:
        budget(world, world.key, name=kind, kind=kind, window=window, value=100)
    subject, now = f"k{world.key.pk}", datetime.now(UTC)
    token, second = announced(world.acme.pk), int(now.timestamp())
    midnight = round(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
    client = redis.client()
    client.hset(counters.counter(world.acme.pk, token, subject), mapping={"live": 2, f"q:{midnight}": 7, "spent": 0})
    client.hset(counters.rate(world.acme.pk, token, subject), mapping={str(second): 3, f"t{second}": 40, "sum": 3, "tsum": 40})

    found = {one.limit.kind: one for one in used(world.acme, limits_on_path(world.key), now=now)}

    assert {kind: one.spent for kind, one in found.items()} == {"rpm": 3, "tpm": 40, "rpd": 7, "parallel": 2, "max_tokens": 0}
    units = {kind: one.unit for kind, one in found.items()}
    assert units == {"rpm": "count", "tpm": "tokens", "rpd": "count", "parallel": "count", "max_tokens": "tokens"}
    assert [one.limit.kind for one in found.values() if one.resets_at is not None] == ["rpd"]
    assert [one.limit.kind for one in found.values() if not one.has_meter] == ["max_tokens"]
    assert {one.label for one in found.values()} == {
        "Mia's key · requests per minute", "Mia's key · tokens per minute", "Mia's key · requests per day",
        "Mia's key · parallel calls", "Mia's key · output tokens per call",
    }  # fmt: skip


def test_calls_of_the_day_are_the_ledgers_until_a_call_has_counted_them(world: World) -> None:
    budget(world, world.key, name="rpd", kind="rpd", window="day", value=100)
    now = datetime.now(UTC)
    insert_calls(*(call_row(world.key, at=now) for _ in range(3)))
    announced(world.acme.pk)
    (found,) = used(world.acme, limits_on_path(world.key), now=now)
    assert found.spent == 3


def test_limits_of_what_may_be_made_are_none_of_a_call(world: World) -> None:
    for kind in ("keys", "seats"):
        budget(world, world.platform, name=kind, kind=kind, window="now", value=3)
    assert limits_on_path(world.key) == []


def test_a_default_is_on_the_path_of_a_member_without_a_policy_and_of_none_with_one(world: World) -> None:
    give(world, world.engineering, "members")
    give(world, world.gateway, "keys", name="K")
    found = {limit.policy: limit for limit in limits_on_path(world.key)}
    assert (found["D"].subject, found["D"].level, found["D"].given_by) == (f"m{world.mia.pk}", "member", "engineering")
    assert (found["K"].subject, found["K"].node, found["K"].given_by) == (f"k{world.key.pk}", "Mia's key", "gateway")
    assert Used(found["D"], 0, 0, None).where == "engineering, as a default"
    budget(world, world.mia, name="Own")
    assert {limit.policy for limit in limits_on_path(world.key)} == {"Own", "K"}


def test_a_default_is_no_budget_of_the_group_it_is_bound_to(world: World) -> None:
    give(world, world.engineering, "members")
    assert budgets_visible_to(world.actor("alice")) == []
    (own,) = budgets_visible_to(world.actor("mia"))
    assert (own.subject, own.node, own.given_by) == (f"m{world.mia.pk}", "Mia", "engineering")


def test_of_several_defaults_the_nearest_is_ones_own(world: World) -> None:
    give(world, world.root, "members", name="Far")
    give(world, world.gateway, "members", name="Near")
    assert [limit.policy for limit in budgets_visible_to(world.actor("mia"))] == ["Near"]
    assert [limit.policy for limit in budgets_visible_to(world.actor("sam"))] == ["Far"]
    budget(world, world.mia, name="Own")
    assert [limit.policy for limit in budgets_visible_to(world.actor("mia"))] == ["Own"]


@pytest.mark.parametrize("seen", ["path", "overview"])
def test_an_exception_raises_the_limit_and_a_reset_forgives_what_was_spent(world: World, seen: str) -> None:
    budget(world, world.key)
    limit = Limit.objects.get(policy__organization=world.acme)
    override(world, limit, "extra", 5 * DOLLAR, api_key=world.key)
    override(world, limit, "reset", 2 * COST, api_key=world.key)
    override(world, limit, "extra", 99 * DOLLAR, group=world.platform)
    insert_calls(*(call_row(world.key, at=NOW) for _ in range(3)))
    limits = limits_on_path(world.key) if seen == "path" else budgets_visible_to(world.actor("mia"))
    (found,) = used(world.acme, limits, now=NOW)
    assert (found.limit.value, found.limit.extra, found.spent) == (6 * DOLLAR, 5 * DOLLAR, COST)


def test_an_exception_that_is_over_or_ended_changes_nothing(world: World) -> None:
    budget(world, world.key)
    limit = Limit.objects.get(policy__organization=world.acme)
    override(world, limit, "extra", DOLLAR, api_key=world.key)
    Override.objects.update(until=NOW - timedelta(days=300))
    override(world, limit, "extra", DOLLAR, api_key=world.key)
    Override.objects.filter(until__year=2100).update(revoked_at=NOW)
    assert [one.value for one in limits_on_path(world.key)] == [DOLLAR]
    assert [one.value for one in budgets_visible_to(world.actor("mia"))] == [DOLLAR]


def test_an_exception_to_a_default_is_of_its_member_alone(world: World) -> None:
    policy = give(world, world.engineering, "members")
    override(world, policy.limits.get(), "extra", DOLLAR, member=world.mia)
    assert [one.value for one in budgets_visible_to(world.actor("mia"))] == [2 * DOLLAR]
    assert [one.value for one in budgets_visible_to(world.actor("sam"))] == [DOLLAR]
    assert [one.value for one in limits_on_path(world.key)] == [2 * DOLLAR]
