"""A key's own limits and rules: what is written, who may, and that the proxy hears of it."""

from typing import Any

import pytest

from gateway_project.lib import redis
from guardrails.models import Binding, Limit, Override, Policy, Rule
from guardrails.selectors import NO_LIMITS, KeyLimits, KeyRules, limits_by_key, own_limits, own_rules
from guardrails.services.bindings import bind
from guardrails.services.key_limits import create_limited_key, set_key_limits
from guardrails.services.policies import MAX_BUDGET_NANO_USD, MAX_RPM, LimitSpec, create_policy
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


EVERY_LIMIT: dict[str, Any] = {
    "daily_nano_usd": CENT,
    "weekly_nano_usd": 2 * CENT,
    "monthly_nano_usd": 3 * CENT,
    "total_nano_usd": 4 * CENT,
    "rpm": 5,
    "tpm": 6000,
    "rpd": 700,
    "parallel": 8,
    "max_tokens": 900,
}


def test_every_limit_of_a_key_is_set_and_read_back(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), **EVERY_LIMIT)
    assert own_limits(world.key) == KeyLimits(**EVERY_LIMIT)
    assert set(EVERY_LIMIT) == set(KeyLimits._fields)


@pytest.mark.parametrize("field", EVERY_LIMIT)
def test_each_limit_that_an_admin_set_is_a_ceiling(world: World, field: str) -> None:
    set_key_limits(world.key, by=world.actor("sam"), **EVERY_LIMIT)
    set_key_limits(world.key, by=world.actor("mia"), **EVERY_LIMIT | {field: 1})
    for looser in (EVERY_LIMIT[field] + 1, None):
        with pytest.raises(Refused, match="lower it") as refused:
            set_key_limits(world.key, by=world.actor("mia"), **EVERY_LIMIT | {field: looser})
        assert refused.value.field == field


def test_a_limit_that_changes_keeps_its_row_and_the_exceptions_to_it(world: World) -> None:
    set_key_limits(world.key, by=world.actor("sam"), rpm=10, daily_nano_usd=CENT)
    limit = Limit.objects.get(policy__bindings__api_key=world.key, kind="rpm")
    Override.objects.create(organization=world.acme, api_key=world.key, limit=limit, kind="extra", amount=5, created_by=world.sam)
    set_key_limits(world.key, by=world.actor("sam"), rpm=20)
    assert Limit.objects.get(policy__bindings__api_key=world.key).pk == limit.pk
    assert limit.overrides.count() == 1


def test_rules_are_kept_beside_limits(world: World) -> None:
    mia = world.actor("mia")
    rules = {"models": ["gpt-5*"], "blocked_models": ["gpt-5-pro"], "addresses": ["192.0.2.7", "10.1.2.3/8"]}
    set_key_limits(world.key, by=mia, rpm=5, rules=rules)
    assert own_rules(world.key) == KeyRules(("gpt-5*",), ("gpt-5-pro",), ("192.0.2.7", "10.0.0.0/8"))
    set_key_limits(world.key, by=mia, rpm=6)
    assert own_rules(world.key).models == ("gpt-5*",)
    set_key_limits(world.key, by=mia, rpm=6, rules={})
    assert own_rules(world.key) == KeyRules()
    assert not Rule.objects.filter(policy__bindings__api_key=world.key).exists()


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"models": ["gpt 5!"]}, "models"),
        ({"blocked_models": ["[a]"]}, "blocked_models"),
        ({"addresses": ["10.0.0.0/40"]}, "addresses"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(world: World, rules: dict[str, list[str]], field: str) -> None:
    with pytest.raises(Refused) as refused:
        set_key_limits(world.key, by=world.actor("mia"), rules=rules)
    assert refused.value.field == field


ADMINS_RULES = {"models": ["gpt-*"], "blocked_models": ["gpt-5-pro"], "addresses": ["10.0.0.0/8"]}


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"models": ["*"]}, "models"),
        ({"models": ["gpt-5", "claude-5"]}, "models"),
        ({"models": []}, "models"),
        ({"blocked_models": []}, "blocked_models"),
        ({"blocked_models": ["gpt-5"]}, "blocked_models"),
        ({"addresses": []}, "addresses"),
        ({"addresses": ["10.0.0.1", "192.0.2.1"]}, "addresses"),
        ({"addresses": ["0.0.0.0/0"]}, "addresses"),
    ],
)
def test_a_member_does_not_loosen_an_admins_lists(world: World, wanted: dict[str, list[str]], field: str) -> None:
    set_key_limits(world.key, by=world.actor("sam"), rules=ADMINS_RULES)
    with pytest.raises(Refused, match="admin") as refused:
        set_key_limits(world.key, by=world.actor("mia"), rules=ADMINS_RULES | wanted)
    assert refused.value.field == field
    assert own_rules(world.key).models == ("gpt-*",)


def test_a_member_narrows_an_admins_lists_and_goes_back(world: World) -> None:
    mia = world.actor("mia")
    set_key_limits(world.key, by=world.actor("sam"), rules=ADMINS_RULES)
    narrower = {"models": ["gpt-5-mini"], "blocked_models": ["gpt-5-*"], "addresses": ["10.7.0.0/16"]}
    set_key_limits(world.key, by=mia, rules=narrower)
    set_key_limits(world.key, by=mia, rules=ADMINS_RULES)
    assert own_rules(world.key).models == ("gpt-*",)


def test_the_trail_names_rules_before_and_after(world: World) -> None:
    set_key_limits(world.key, by=world.actor("sam"), rules=ADMINS_RULES)
    set_key_limits(world.key, by=world.actor("sam"), rules={"models": ["a"]})
    event = AuditEvent.objects.filter(organization=world.acme, action="key.limits_set").latest("pk")
    assert (event.before["models"], event.after["models"]) == (["gpt-*"], ["a"])
    assert "blocked_models" not in event.after
