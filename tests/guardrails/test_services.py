"""Limits of keys and policies: what is written, who may, and that the proxy hears of it."""

from typing import Any

import pytest

from gateway_project.lib import redis
from guardrails.models import Binding, Limit, Policy
from guardrails.selectors import NO_LIMITS, KeyLimits, limits_by_key, own_limits
from guardrails.services import (
    MAX_BUDGET_NANO_USD,
    MAX_RPM,
    LimitSpec,
    bind,
    create_limited_key,
    create_policy,
    set_key_limits,
)
from orgs import epoch
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, AuditEvent
from orgs.services.keys import revoke_key
from orgs.services.members import suspend_member
from tests.actors import World, make_world

CENT = 10_000_000
DOLLAR = 10**9


def test_limits_are_rows_of_a_policy_of_the_keys_own(world: World) -> None:
    set_key_limits(
        world.key, by=world.actor("mia"), daily_nano_usd=CENT, monthly_nano_usd=DOLLAR, total_nano_usd=5 * DOLLAR, rpm=60
    )
    binding = Binding.objects.get(api_key=world.key)
    assert binding.policy.dedicated
    assert set(binding.policy.limits.values_list("kind", "window", "value")) == {
        ("budget", "day", CENT),
        ("budget", "month", DOLLAR),
        ("budget", "total", 5 * DOLLAR),
        ("rpm", "minute", 60),
    }
    assert own_limits(world.key) == KeyLimits(CENT, DOLLAR, 5 * DOLLAR, 60)


def test_setting_limits_again_replaces_them_all(world: World) -> None:
    mia = world.actor("mia")
    set_key_limits(world.key, by=mia, daily_nano_usd=CENT, rpm=5)
    set_key_limits(world.key, by=mia, monthly_nano_usd=DOLLAR)
    assert own_limits(world.key) == KeyLimits(monthly_nano_usd=DOLLAR)
    assert Policy.objects.filter(dedicated=True, bindings__api_key=world.key).count() == 1
    set_key_limits(world.key, by=mia)
    assert own_limits(world.key) == NO_LIMITS


def test_a_change_says_what_was_and_what_is(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    set_key_limits(world.key, by=world.actor("sam"), rpm=9)
    event = AuditEvent.objects.filter(organization=world.acme, action="key.limits_set").latest("pk")
    assert (event.actor, event.object_id) == (world.sam, str(world.key.pk))
    assert (event.before["rpm"], event.after["rpm"]) == (5, 9)


def test_the_same_limits_again_are_no_change(world: World) -> None:
    for _ in range(2):
        set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    assert AuditEvent.objects.filter(organization=world.acme, action="key.limits_set").count() == 1


def test_workers_are_told(committed_db: None) -> None:
    world = make_world()
    before = redis.client().get(epoch.keys(world.acme.pk)[0])
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    assert redis.client().get(epoch.keys(world.acme.pk)[0]) != before
    assert not redis.client().hlen(epoch.keys(world.acme.pk)[1])


@pytest.mark.parametrize("name", ["noah", "charlie"])
def test_others_keys_are_left_alone(world: World, name: str) -> None:
    with pytest.raises(NotAllowed):
        set_key_limits(world.key, by=world.actor(name), rpm=5)
    assert own_limits(world.key) == NO_LIMITS


def test_a_suspended_member_sets_nothing(world: World) -> None:
    suspend_member(world.actor("mia").memberships[0], by=world.actor("sam"))
    with pytest.raises(NotAllowed):
        set_key_limits(world.key, by=world.actor("mia"), rpm=5)


def test_a_deleted_key_takes_no_limits(world: World) -> None:
    revoke_key(world.key, by=world.actor("mia"))
    with pytest.raises(Refused, match="deleted"):
        set_key_limits(world.key, by=world.actor("mia"), rpm=5)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"monthly_nano_usd": 2 * DOLLAR, "rpm": 10}, "monthly_nano_usd"),
        ({"rpm": 10}, "monthly_nano_usd"),
        ({"monthly_nano_usd": DOLLAR}, "rpm"),
        ({"monthly_nano_usd": DOLLAR, "rpm": 11}, "rpm"),
    ],
)
def test_what_an_admin_set_is_a_ceiling_for_the_member(world: World, wanted: dict[str, Any], field: str) -> None:
    set_key_limits(world.key, by=world.actor("sam"), monthly_nano_usd=DOLLAR, rpm=10)
    with pytest.raises(Refused) as refused:
        set_key_limits(world.key, by=world.actor("mia"), **wanted)
    assert refused.value.field == field
    assert own_limits(world.key) == KeyLimits(monthly_nano_usd=DOLLAR, rpm=10)


def test_the_ceiling_holds_after_the_member_went_below_it(world: World) -> None:
    set_key_limits(world.key, by=world.actor("sam"), rpm=10)
    set_key_limits(world.key, by=world.actor("mia"), rpm=5, daily_nano_usd=CENT)
    set_key_limits(world.key, by=world.actor("mia"), rpm=10)
    with pytest.raises(Refused, match="lower it"):
        set_key_limits(world.key, by=world.actor("mia"), rpm=11)


def test_an_admin_lifts_what_an_admin_set(world: World) -> None:
    set_key_limits(world.key, by=world.actor("sam"), rpm=10)
    set_key_limits(world.key, by=world.actor("lena"))
    set_key_limits(world.key, by=world.actor("mia"), rpm=1000)
    assert own_limits(world.key) == KeyLimits(rpm=1000)


def test_a_members_own_limit_is_its_own_to_raise(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    set_key_limits(world.key, by=world.actor("mia"), rpm=50)
    assert own_limits(world.key).rpm == 50


@pytest.mark.parametrize(
    "limits",
    [{"rpm": -1}, {"rpm": MAX_RPM + 1}, {"daily_nano_usd": -1}, {"total_nano_usd": MAX_BUDGET_NANO_USD + 1}],
)
def test_a_limit_out_of_range_is_refused(world: World, limits: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="range") as refused:
        set_key_limits(world.key, by=world.actor("alice"), **limits)
    assert refused.value.field in limits
    assert not Limit.objects.filter(policy__bindings__api_key=world.key).exists()


def test_a_key_is_made_with_its_limits(world: World) -> None:
    mia = world.actor("mia")
    key, text = create_limited_key(world.gateway, name="trial", member=world.mia, by=mia, limits=KeyLimits(monthly_nano_usd=CENT))
    assert text.startswith(f"gh_sk_{key.public_id}_")
    assert own_limits(key) == KeyLimits(monthly_nano_usd=CENT)


def test_a_key_without_limits_gets_no_policy(world: World) -> None:
    key, _ = create_limited_key(world.gateway, name="free", member=world.mia, by=world.actor("mia"))
    assert not Binding.objects.filter(api_key=key).exists()


def test_a_bad_limit_makes_no_key(world: World) -> None:
    with pytest.raises(Refused):
        create_limited_key(world.gateway, name="bad", member=world.mia, by=world.actor("mia"), limits=KeyLimits(rpm=-1))
    assert not ApiKey.objects.filter(organization=world.acme, name="bad").exists()


def test_limits_of_many_keys_are_one_query(world: World, django_assert_num_queries: Any) -> None:
    other, _ = create_limited_key(
        world.gateway, name="other", member=world.mia, by=world.actor("mia"), limits=KeyLimits(CENT, rpm=5)
    )
    policy = create_policy(world.acme, name="Shared", limits=[LimitSpec("rpm", "minute", 7)], by=world.actor("alice"))
    bind(policy, subject=world.key, by=world.actor("alice"))
    bind(policy, subject=other, by=world.actor("alice"))
    with django_assert_num_queries(1):
        found = limits_by_key([world.key, other])
    assert sorted(limit.value for limit in found[other.pk]) == [5, 7, CENT]
    assert [limit.value for limit in found[world.key.pk]] == [7]


def test_a_policy_binds_groups_members_keys_and_applications(world: World) -> None:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name="  Fair   use ", limits=[LimitSpec("budget", "day", CENT)], by=alice)
    for subject in (world.root, world.platform, world.mia, world.key, world.assistant):
        bind(policy, subject=subject, by=alice)
        bind(policy, subject=subject, by=alice)
    assert policy.name == "Fair use"
    assert policy.bindings.count() == 5
    assert AuditEvent.objects.filter(organization=world.acme, action="policy.bound").count() == 5


def test_an_admin_binds_below_its_own_node_only(world: World) -> None:
    policy = create_policy(world.acme, name="Team", limits=[LimitSpec("budget", "day", CENT)], by=world.actor("sam"))
    bind(policy, subject=world.gateway, by=world.actor("sam"))
    bind(policy, subject=world.mia, by=world.actor("sam"))
    for subject in (world.platform, world.root, world.noah, world.sam, world.other.root):
        with pytest.raises((NotAllowed, Refused)):
            bind(policy, subject=subject, by=world.actor("sam"))


def test_a_member_makes_no_policy(world: World) -> None:
    with pytest.raises(NotAllowed):
        create_policy(world.acme, name="Mine", limits=[], by=world.actor("mia"))


def test_policies_stay_in_their_organisation(world: World) -> None:
    policy = create_policy(world.acme, name="Ours", limits=[], by=world.actor("alice"))
    with pytest.raises(NotAllowed):
        create_policy(world.acme, name="Theirs", limits=[], by=world.actor("charlie"))
    with pytest.raises(Refused):
        bind(policy, subject=world.other.root, by=world.actor("charlie"))
    with pytest.raises(Refused, match="not a member"):
        bind(policy, subject=world.charlie, by=world.actor("alice"))


def test_a_keys_own_policy_binds_nothing_else(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    own = Policy.objects.get(dedicated=True, bindings__api_key=world.key)
    with pytest.raises(Refused):
        bind(own, subject=world.platform, by=world.actor("alice"))
