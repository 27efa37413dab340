"""What applies to a key: policies on its path, defaults from above, overrides, rules, approvals; and what PostgreSQL says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from gateway_project.lib import lifespan
from gateway_project.lib.money import NANO
from guardrails import compiling, windows
from guardrails.compiling import Bound, BoundLimit, BoundRule, Override
from guardrails.limits import Limit, Limits
from guardrails.models import Binding, Policy, Request, Rule
from guardrails.models import Limit as LimitRow
from guardrails.models import Override as OverrideRow
from guardrails.rules import DEFAULT_CLAMP_LEAST_TOKENS, Approval
from orgs import access
from orgs.access import Principal
from tests.actors import World, make_world
from tests.guardrails.principals import MIA

NOW = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOBODY = dict.fromkeys(("group_id", "member_id", "api_key_id", "application_id"))


def bound(
    *limits: tuple[str, str, int], policy: str = "a policy", dedicated: bool = False, reach: str = "self", **more: Any
) -> Bound:
    """One binding to the one subject among `more`; its limits are numbered from 1."""
    return msgspec.convert(
        {
            **NOBODY,
            "reach": reach,
            "policy": policy,
            "dedicated": dedicated,
            "limits": [
                BoundLimit(number, *limit)  # type: ignore[arg-type]
                for number, limit in enumerate(limits or [("budget", "month", 5)], start=1)
            ],
            "rules": [],
            **more,
        },
        Bound,
    )


def compiled(*found: Bound, principal: Principal = MIA, pool: int = 9 * NANO, now: datetime = NOW, **more: Any) -> Limits:
    return compiling.compiled(principal, found, generation="a1", pool_nano_usd=pool, now=now, **more)


def names(limits: Limits) -> list[tuple[str, str]]:
    """Policy and subject of every limit but the pool."""
    return [(limit.policy, limits.subjects[limit.subject]) for limit in limits.limits[:-1]]


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


# --- the path --------------------------------------------------------------------------------------------


def test_the_pool_always_applies_and_stands_last() -> None:
    (pool,) = compiled().limits
    assert pool == Limit(
        id=0,
        kind="budget",
        window="total",
        value=9 * NANO,
        subject=6,
        level="credit pool",
        node="Acme",
        policy="prepaid credit",
    )
    assert pool.is_pool


def test_limits_stand_most_specific_first_and_name_their_node() -> None:
    found = compiled(
        bound(group_id=1),
        bound(group_id=2),
        bound(group_id=3),
        bound(member_id=40),
        bound(application_id=60),
        bound(api_key_id=50),
    ).limits
    assert [(limit.level, limit.node) for limit in found] == [
        ("key", "Mia's key"),
        ("application", "Assistant"),
        ("member", "Mia"),
        ("group", "platform"),
        ("group", "engineering"),
        ("organization", "Acme"),
        ("credit pool", "Acme"),
    ]


def test_several_policies_on_one_subject_all_apply_in_the_order_they_were_made() -> None:
    found = compiled(
        bound(("budget", "month", 3), api_key_id=50),
        bound(("rpm", "minute", 5), ("budget", "day", 4), api_key_id=50),
        bound(("budget", "month", 2), api_key_id=50),
    ).limits
    assert [(limit.kind, limit.value) for limit in found[:-1]] == [("budget", 3), ("rpm", 5), ("budget", 4), ("budget", 2)]


def test_what_is_bound_beside_the_path_does_not_apply() -> None:
    assert names(compiled(bound(group_id=99), bound(member_id=99), bound(api_key_id=99), bound(application_id=99))) == []


def test_a_binding_to_nothing_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="exactly one subject"):
        compiled(bound())


def test_limits_of_the_console_are_no_calls_business() -> None:
    found = compiled(bound(("keys", "now", 3), ("seats", "now", 4), ("rpm", "minute", 5), group_id=1))
    assert [limit.kind for limit in found.limits] == ["rpm", "budget"]


def test_every_kind_is_compiled_with_its_window() -> None:
    kinds = [
        ("tpm", "minute", 1),
        ("rpd", "day", 2),
        ("parallel", "now", 3),
        ("max_tokens", "call", 4),
        ("rpm", "minute", 5),
    ]
    found = compiled(bound(*kinds, member_id=40))
    assert [(limit.kind, limit.window, limit.value) for limit in found.limits[:-1]] == kinds
    day = windows.containing(NOW, "day", "Asia/Kathmandu")
    assert day.starts_at is not None
    assert day.ends_at is not None
    assert [(limit.starts_ms, limit.until_ms) for limit in found.limits[:-1]] == [
        (0, 0),
        (milliseconds(day.starts_at), milliseconds(day.ends_at)),
        (0, 0),
        (0, 0),
        (0, 0),
    ]
    assert found.max_tokens is not None
    assert found.max_tokens.value == 4


# --- windows ---------------------------------------------------------------------------------------------


def at(year: int, month: int, day: int) -> int:
    """When the next day begins in Kathmandu, 5:45 ahead."""
    return milliseconds(datetime(year, month, day, 18, 15, tzinfo=UTC))


def test_budgets_have_the_windows_of_the_organisations_zone() -> None:
    every = [("budget", window, 5) for window in (*windows.BOUNDED, "total")]
    found = compiled(bound(*every, api_key_id=50)).limits
    starts = {limit.window: limit.starts_ms for limit in found}
    assert starts == {
        "day": at(2026, 11, 19),
        "week": at(2026, 11, 15),
        "month": at(2026, 10, 31),
        "quarter": at(2026, 9, 30),
        "year": at(2025, 12, 31),
        "total": 0,
    }
    assert all(limit.until_ms == limit.ends_ms for limit in found)
    assert found[0].ends_ms - found[0].starts_ms == 86_400_000


def test_the_organisations_calendar_moves_its_windows() -> None:
    principal = msgspec.structs.replace(MIA, time_zone="UTC", week_start=6, fiscal_month=8, reset_hour=18)
    every = [("budget", window, 5) for window in windows.BOUNDED]
    found = compiled(bound(*every, api_key_id=50), principal=principal).limits[:-1]
    starts = [datetime.fromtimestamp(limit.starts_ms / 1000, tz=UTC) for limit in found]
    assert starts == [
        datetime(2026, 11, 19, 18, tzinfo=UTC),  # the day of the 19th lasts until 18:00 of the 20th
        datetime(2026, 11, 15, 18, tzinfo=UTC),  # Sunday
        datetime(2026, 11, 1, 18, tzinfo=UTC),
        datetime(2026, 11, 1, 18, tzinfo=UTC),  # August, November, …
        datetime(2026, 8, 1, 18, tzinfo=UTC),
    ]


# --- defaults --------------------------------------------------------------------------------------------


def test_a_default_for_members_goes_to_the_member_and_one_for_keys_to_the_key() -> None:
    found = compiled(bound(group_id=1, reach="members", policy="each member"), bound(group_id=2, reach="keys", policy="each key"))
    assert names(found) == [("each key", "k50"), ("each member", "m40")]
    assert [limit.level for limit in found.limits[:-1]] == ["key", "member"]


@pytest.mark.parametrize("reach", ["members", "keys"])
def test_the_nearest_group_with_defaults_wins_with_all_of_them(reach: str) -> None:
    found = compiled(
        bound(group_id=1, reach=reach, policy="far"),
        bound(group_id=2, reach=reach, policy="near"),
        bound(group_id=2, reach=reach, policy="near too"),
        bound(group_id=3, policy="the group's own"),
    )
    subject = {"members": "m40", "keys": "k50"}[reach]
    assert names(found) == [*sorted([("near", subject), ("near too", subject)]), ("the group's own", "g3")]


@pytest.mark.parametrize(("reach", "own"), [("members", {"member_id": 40}), ("keys", {"api_key_id": 50})])
def test_an_own_policy_replaces_the_default_the_limits_of_its_own_page_do_not(reach: str, own: dict[str, Any]) -> None:
    default = bound(group_id=3, reach=reach, policy="default")
    (subject,) = {subject for _, subject in names(compiled(default))}
    assert names(compiled(default, bound(policy="own", **own))) == [("own", subject)]
    assert sorted(names(compiled(default, bound(policy="own", dedicated=True, **own)))) == [
        ("default", subject),
        ("own", subject),
    ]


def test_a_policy_of_the_member_does_not_replace_the_default_of_its_keys() -> None:
    found = compiled(bound(member_id=40, policy="own"), bound(group_id=1, reach="keys", policy="each key"))
    assert names(found) == [("each key", "k50"), ("own", "m40")]


def test_a_default_for_members_does_not_reach_a_key_of_an_application() -> None:
    service = msgspec.structs.replace(MIA, member_id=None, member_name="")
    default = bound(group_id=1, reach="members", policy="each member")
    assert names(compiled(default, principal=service)) == []


def test_a_default_of_a_group_beside_the_path_reaches_nobody() -> None:
    assert names(compiled(bound(group_id=99, reach="members"), bound(group_id=99, reach="keys"))) == []


# --- overrides -------------------------------------------------------------------------------------------


def override(amount: int, **more: Any) -> Override:
    facts: dict[str, Any] = {"limit_id": 1, "subject": "m40", "kind": "extra", "starts_at": NOW - HOUR, "until": NOW + HOUR}
    facts |= more
    return Override(amount=amount, **facts)


def one(*overrides: Override, found: Bound | None = None, now: datetime = NOW) -> Limit:
    return compiled(found or bound(("budget", "month", 100), member_id=40), overrides=overrides, now=now).limits[0]


def test_more_is_added_until_its_end() -> None:
    limit = one(override(30), override(7, until=None))
    assert (limit.value, limit.shown_value, limit.forgiven) == (137, 137, 0)
    assert limit.until_ms == milliseconds(NOW + HOUR)
    assert limit.ends_ms == milliseconds(datetime(2026, 11, 30, 18, 15, tzinfo=UTC))


def test_an_override_that_begins_later_makes_the_limit_change_then() -> None:
    limit = one(override(30, starts_at=NOW + HOUR / 2))
    assert (limit.value, limit.until_ms) == (100, milliseconds(NOW + HOUR / 2))
    begun = one(override(30, starts_at=NOW + HOUR / 2), now=NOW + HOUR / 2)
    assert (begun.value, begun.until_ms) == (130, milliseconds(NOW + HOUR))


def test_the_first_of_all_changes_counts() -> None:
    overrides = [
        override(1, until=NOW + 3 * HOUR),
        override(2, until=NOW + 2 * HOUR),
        override(4, starts_at=NOW + HOUR, until=None),
    ]
    assert one(*overrides).until_ms == milliseconds(NOW + HOUR)
    assert one(*overrides[:2]).until_ms == milliseconds(NOW + 2 * HOUR)
    assert one(override(1, until=NOW + 900 * HOUR)).until_ms == one().ends_ms


def test_a_moment_within_a_millisecond_is_over_only_after_it() -> None:
    moment = NOW + timedelta(microseconds=400)
    limit = one(override(30, until=moment))
    assert limit.until_ms == milliseconds(NOW) + 1
    assert datetime.fromtimestamp(limit.until_ms / 1000, tz=UTC) >= moment


def test_a_reset_forgives_without_being_shown_as_a_higher_limit() -> None:
    limit = one(override(60, kind="reset"), override(30))
    assert (limit.value, limit.shown_value, limit.forgiven) == (190, 130, 60)


def test_a_reset_forgives_nothing_of_a_window_that_began_after_it() -> None:
    """As where the calendar was changed since: its end, fixed then, may lie in another window."""
    begins = datetime(2026, 10, 31, 18, 15, tzinfo=UTC)
    long = NOW + 400 * HOUR
    assert one(override(60, kind="reset", starts_at=begins, until=long)).forgiven == 60
    before = override(60, kind="reset", starts_at=begins - timedelta(seconds=1), until=long)
    assert (one(before).forgiven, one(before).value) == (0, 100)
    # More is more, whatever window runs.
    assert one(override(60, starts_at=begins - timedelta(seconds=1), until=long)).value == 160


def test_rates_and_running_calls_can_be_overridden_too() -> None:
    found = bound(("parallel", "now", 2), member_id=40)
    limit = one(override(3), found=found)
    assert (limit.value, limit.until_ms, limit.ends_ms) == (5, milliseconds(NOW + HOUR), 0)
    assert one(override(3, until=None), found=found).until_ms == 0


def test_an_override_is_for_one_limit_and_one_subject() -> None:
    found = bound(("budget", "month", 100), ("budget", "day", 10), member_id=40)
    limits = compiled(found, overrides=[override(30, limit_id=2), override(5, subject="k50"), override(9, subject="org")]).limits
    assert [limit.value for limit in limits[:-1]] == [100, 40]


def test_a_member_may_have_an_exception_to_a_default() -> None:
    default = bound(("budget", "month", 100), group_id=1, reach="members")
    assert one(override(30), found=default).value == 130


def test_the_threshold_to_a_cheaper_model_follows_what_the_budget_is_at_the_moment() -> None:
    found = bound(("budget", "month", 100), ("rpm", "minute", 5), member_id=40, degrade_percent=80, degrade_model="cheap")
    budget, rate = compiled(found).limits[:2]
    assert (budget.keep, budget.degrade_model, rate.keep, rate.degrade_model) == (20, "cheap", None, "")
    assert one(override(50), found=found).keep == 30
    # Of 100 after a reset, 80 may be used anew.
    assert one(override(60, kind="reset"), found=found).keep == 20
    assert one(found=bound(("budget", "month", 99), member_id=40, degrade_percent=50, degrade_model="cheap")).keep == 50


# --- rules and switches ----------------------------------------------------------------------------------


def rule(kind: str, *entries: str) -> BoundRule:
    return BoundRule(kind, entries)  # type: ignore[arg-type]


def test_rules_stand_most_specific_first_and_say_who_set_them() -> None:
    found = compiled(
        bound(group_id=1, policy="company", rules=[rule("models", "gpt-*"), rule("providers", "openai")]),
        bound(group_id=1, reach="keys", policy="each key", rules=[rule("addresses", "10.0.0.0/8")]),
        bound(member_id=40, policy="mia", rules=[rule("models", "gpt-5")]),
    ).rules.rules
    assert [(one.kind, one.level, one.node, one.policy) for one in found] == [
        ("addresses", "key", "Mia's key", "each key"),
        ("models", "member", "Mia", "mia"),
        ("models", "organization", "Acme", "company"),
        ("providers", "organization", "Acme", "company"),
    ]
    assert found[1].entries == ("gpt-5",)


def test_the_most_specific_policy_that_sets_a_switch_decides_it() -> None:
    rules = compiled().rules
    assert (rules.clamp, rules.clamp_least_tokens, rules.observed_holds) == (True, DEFAULT_CLAMP_LEAST_TOKENS, False)
    rules = compiled(
        bound(group_id=1, clamp=True, clamp_least_tokens=100, observed_holds=True),
        bound(group_id=3, clamp=False),
        bound(api_key_id=50, observed_holds=False),
        bound(member_id=40, clamp_least_tokens=7),
    ).rules
    assert (rules.clamp, rules.clamp_least_tokens, rules.observed_holds) == (False, 7, False)


def test_approvals_count_where_the_organisation_asks_for_them() -> None:
    assert compiled(approved=["gpt-5"]).rules.approval is None
    asking = msgspec.structs.replace(MIA, approval_since=NOW)
    assert compiled(approved=["gpt-5"], principal=asking).rules.approval == Approval(milliseconds(NOW), frozenset({"gpt-5"}))


# --- what PostgreSQL says --------------------------------------------------------------------------------


@pytest.fixture
def committed(committed_db: None) -> World:
    return make_world()


def of_key(world: World, *, now: datetime | None = None) -> Limits:
    async def work() -> Limits:
        try:
            principal = await access.principal_of(world.key_text)
            moment = now or datetime.now(UTC)
            return await compiling.compile_for(principal, generation="a1", pool_nano_usd=3, now=moment)
        finally:
            await lifespan.stop()

    return asyncio.run(work())


def policy_on(world: World, name: str, *limits: tuple[str, str, int], reach: str = "self", **more: Any) -> Policy:
    subjects = {field: more.pop(field) for field in ("group", "member", "api_key", "application") if field in more}
    policy = Policy.objects.create(organization=world.acme, name=name, **more)
    for kind, window, value in limits:
        LimitRow.objects.create(policy=policy, kind=kind, window=window, value=value)
    Binding.objects.create(policy=policy, organization=world.acme, reach=reach, **subjects)
    return policy


def test_the_query_finds_what_is_bound_to_the_path_and_to_nothing_else(committed: World) -> None:
    world = committed
    bindings: dict[str, dict[str, Any]] = {
        "root": {"group": world.root},
        "mine": {"group": world.gateway},
        "below": {"group": world.core},
        "beside": {"group": world.sales},
        "member": {"member": world.mia},
        "somebody": {"member": world.noah},
        "key": {"api_key": world.key},
        "application": {"application": world.assistant},
    }
    for name, subject in bindings.items():
        policy_on(world, name, ("budget", "month", NANO), ("rpm", "minute", 7), **subject)

    limits = of_key(world)

    key, member, group = f"k{world.key.pk}", f"m{world.mia.pk}", f"g{world.gateway.pk}"
    expected = [("key", key), ("member", member), ("mine", group), ("root", "org")]
    assert names(limits) == [pair for pair in expected for _ in range(2)]
    assert [(limit.kind, limit.value) for limit in limits.limits[:2]] == [("budget", NANO), ("rpm", 7)]
    assert limits.limits[-1].value == 3
    assert limits.generation == "a1"


def test_the_query_tells_everything_of_a_policy(committed: World) -> None:
    world = committed
    policy = policy_on(
        world,
        "everything",
        ("budget", "quarter", 50),
        ("tpm", "minute", 9),
        group=world.engineering,
        clamp=False,
        clamp_least_tokens=33,
        observed_holds=True,
        degrade_percent=60,
        degrade_model="cheap",
    )
    Rule.objects.create(policy=policy, kind="models", entries=["gpt-*", "claude-*"])
    Rule.objects.create(policy=policy, kind="addresses", entries=[])
    limits = of_key(world)
    assert [(one.kind, one.entries) for one in limits.rules.rules] == [("models", ("gpt-*", "claude-*")), ("addresses", ())]
    assert (limits.rules.clamp, limits.rules.clamp_least_tokens, limits.rules.observed_holds) == (False, 33, True)
    assert (limits.limits[0].keep, limits.limits[0].degrade_model) == (20, "cheap")


def test_the_query_tells_defaults_and_what_replaces_them(committed: World) -> None:
    world = committed
    policy_on(world, "far", ("rpm", "minute", 1), group=world.root, reach="members")
    policy_on(world, "near", ("rpm", "minute", 2), group=world.platform, reach="members")
    policy_on(world, "keys", ("rpm", "minute", 3), group=world.root, reach="keys")
    policy_on(world, "page", ("rpm", "minute", 4), api_key=world.key, dedicated=True)
    member, key = f"m{world.mia.pk}", f"k{world.key.pk}"
    assert sorted(names(of_key(world))) == [("keys", key), ("near", member), ("page", key)]
    policy_on(world, "own", ("rpm", "minute", 5), member=world.mia)
    assert sorted(names(of_key(world))) == [("keys", key), ("own", member), ("page", key)]


def test_the_query_tells_overrides_that_stand(committed: World) -> None:
    world, now = committed, datetime.now(UTC)
    limit = policy_on(world, "a", ("budget", "total", 100), group=world.root).limits.get()

    def make(amount: int, **more: Any) -> None:
        facts = {"kind": "extra", "starts_at": now - HOUR, "until": now + HOUR, "group": world.root} | more
        OverrideRow.objects.create(organization=world.acme, limit=limit, amount=amount, created_by=world.alice, **facts)

    make(1)
    make(2, until=None, kind="reset")
    make(4, until=now - HOUR / 2)
    make(8, revoked_at=now)
    make(16, starts_at=now + HOUR / 2)
    make(32, group=world.sales)
    make(64, group=None, member=world.mia)
    found = of_key(world, now=now).limits[0]
    assert (found.value, found.shown_value) == (103, 101)
    assert found.until_ms == milliseconds(now + HOUR / 2) or found.until_ms == milliseconds(now + HOUR / 2) + 1
    later = of_key(world, now=now + 2 * HOUR).limits[0]
    assert (later.value, later.until_ms) == (102, 0)


def test_the_query_tells_models_that_were_approved_on_the_way_up(committed: World) -> None:
    world = committed
    world.acme.approval_since = NOW
    world.acme.save()
    for model, status, group in (
        ("here", "approved", world.gateway),
        ("above", "approved", world.root),
        ("open", "open", world.gateway),
        ("declined", "declined", world.gateway),
        ("below", "approved", world.core),
        ("beside", "approved", world.sales),
    ):
        Request.objects.create(
            organization=world.acme, kind="model", group=group, model=model, status=status, requested_by=world.mia
        )
    approval = of_key(world).rules.approval
    assert approval is not None
    assert approval == Approval(milliseconds(NOW), frozenset({"here", "above"}))


def test_the_organisations_calendar_comes_with_the_key(committed: World) -> None:
    world = committed
    world.acme.week_start, world.acme.reset_hour, world.acme.time_zone = 6, 5, "Asia/Tokyo"
    world.acme.save()
    policy_on(world, "weekly", ("budget", "week", 5), group=world.root)
    starts = datetime.fromtimestamp(of_key(world).limits[0].starts_ms / 1000, tz=UTC)
    assert (starts.weekday(), starts.hour) == (5, 20)  # Sunday 5:00 in Tokyo
