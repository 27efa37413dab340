"""Policies: what is made, changed, copied and deleted, by whom, and what the audit trail says of it."""

from typing import Any

import pytest

from gateway_project.lib import redis
from guardrails.models import Limit, Override, Policy, Rule
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import (
    MAX_BUDGET_NANO_USD,
    LimitSpec,
    change_policy,
    copy_policy,
    create_policy,
    delete_policy,
)
from orgs import epoch
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Membership
from tests.actors import World, make_world

CENT = 10_000_000
DOLLAR = 10**9
DAILY = LimitSpec("budget", "day", CENT)


def made(world: World, name: str = "Team", *, by: str = "alice", **options: Any) -> Policy:
    return create_policy(world.acme, name=name, limits=options.pop("limits", [DAILY]), by=world.actor(by), **options)


def last_event(world: World, action: str) -> AuditEvent:
    return AuditEvent.objects.filter(organization=world.acme, action=action).latest("pk")


# --- making ---------------------------------------------------------------------------------------


def test_every_kind_of_limit_and_rule_is_written(world: World) -> None:
    limits = [LimitSpec(kind, window, 7) for kind, windows in Limit.WINDOWS.items() for window in windows]
    rules = {
        "models": ["gpt-*", "claude-?"],
        "blocked_models": ["gpt-pro"],
        "providers": ["openai"],
        "addresses": ["10.1.2.3/8", "2001:db8::1"],
        "members": [world.mia.email.upper(), str(world.sam.pk)],
    }
    policy = made(world, limits=limits, rules=rules, description="  For   all ", clamp=False, clamp_least_tokens=64)
    assert {(limit.kind, limit.window) for limit in policy.limits.all()} == {(spec.kind, spec.window) for spec in limits}
    assert {rule.kind: rule.entries for rule in policy.rules.all()} == rules | {
        "addresses": ["10.0.0.0/8", "2001:db8::1"],
        "members": [str(world.mia.pk), str(world.sam.pk)],
    }
    assert (policy.description, policy.clamp, policy.clamp_least_tokens) == ("For all", False, 64)


def test_the_trail_says_what_was_made(world: World) -> None:
    made(world, rules={"models": ["gpt-*"]}, degrade_percent=90, degrade_model="small")
    assert last_event(world, "policy.created").after == {
        "name": "Team",
        "budget day": CENT,
        "models": ["gpt-*"],
        "degrade_percent": 90,
        "degrade_model": "small",
    }


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": "   "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"description": "x" * 301}, "description"),
        ({"limits": [LimitSpec("budget", "minute", 1)]}, "budget minute"),
        ({"limits": [LimitSpec("luck", "day", 1)]}, "luck day"),
        ({"limits": [DAILY, DAILY]}, "budget day"),
        ({"limits": [LimitSpec("budget", "day", -1)]}, "budget day"),
        ({"limits": [LimitSpec("budget", "day", MAX_BUDGET_NANO_USD + 1)]}, "budget day"),
        ({"limits": [LimitSpec("tpm", "minute", 10**13)]}, "tpm minute"),
        ({"rules": {"models": ["a b"]}}, "models"),
        ({"rules": {"providers": ["<x>"]}}, "providers"),
        ({"rules": {"addresses": ["300.1.1.1"]}}, "addresses"),
        ({"rules": {"members": ["nobody@nowhere.test"]}}, "members"),
        ({"rules": {"models": [f"m{number}" for number in range(201)]}}, "models"),
        ({"rules": {"colours": ["red"]}}, None),
        ({"clamp_least_tokens": 0}, "clamp_least_tokens"),
        ({"degrade_percent": 90}, "degrade_model"),
        ({"degrade_model": "small"}, "degrade_percent"),
        ({"degrade_percent": 0, "degrade_model": "small"}, "degrade_percent"),
        ({"degrade_percent": 101, "degrade_model": "small"}, "degrade_percent"),
        ({"degrade_percent": 50, "degrade_model": "small*"}, "degrade_model"),
    ],
)
def test_what_means_nothing_is_refused_and_nothing_is_made(world: World, options: dict[str, Any], field: str | None) -> None:
    with pytest.raises(Refused) as refused:
        made(world, options.pop("name", "Team"), **options)
    assert refused.value.field == field
    assert not Policy.objects.filter(organization=world.acme).exists()


def test_someone_of_another_organisation_is_no_member(world: World) -> None:
    with pytest.raises(Refused, match="not the e-mail address of a member"):
        made(world, rules={"members": [world.charlie.email]})


def test_two_policies_of_one_name_would_be_mistaken(world: World) -> None:
    made(world, "Fair use")
    with pytest.raises(Refused, match="already") as refused:
        made(world, "fair  USE")
    assert refused.value.field == "name"


def test_a_member_makes_no_policy(world: World) -> None:
    with pytest.raises(NotAllowed):
        made(world, "Mine", by="mia")


def test_policies_stay_in_their_organisation(world: World) -> None:
    policy = made(world, "Ours", limits=[])
    with pytest.raises(NotAllowed):
        create_policy(world.acme, name="Theirs", limits=[], by=world.actor("charlie"))
    for attempt in (change_policy, copy_policy, delete_policy):
        with pytest.raises(Refused):
            attempt(policy, by=world.actor("charlie"))


# --- changing -------------------------------------------------------------------------------------


def test_what_is_not_given_stays(world: World) -> None:
    policy = made(world, rules={"models": ["a"]}, description="first", clamp=True)
    change_policy(policy, by=world.actor("alice"), name="Crew")
    fresh = Policy.objects.get(pk=policy.pk)
    assert (fresh.name, fresh.description, fresh.clamp) == ("Crew", "first", True)
    assert fresh.limits.count() == fresh.rules.count() == 1


def test_a_change_says_what_was_and_what_is_and_nothing_else(world: World) -> None:
    policy = made(world, by="lena", limits=[DAILY, LimitSpec("rpm", "minute", 5)], rules={"models": ["a"]})
    change_policy(
        policy,
        by=world.actor("lena"),
        limits=[DAILY._replace(value=2 * CENT), LimitSpec("tpm", "minute", 9)],
        rules={"providers": ["openai"]},
        degrade_percent=80,
        degrade_model="small",
    )
    event = last_event(world, "policy.changed")
    assert event.actor == world.lena
    assert event.before == {"budget day": CENT, "rpm minute": 5, "models": ["a"]}
    assert event.after == {
        "budget day": 2 * CENT,
        "tpm minute": 9,
        "providers": ["openai"],
        "degrade_percent": 80,
        "degrade_model": "small",
    }


def test_the_same_again_is_no_change(world: World) -> None:
    policy = made(world)
    change_policy(policy, by=world.actor("alice"), name="Team", limits=[DAILY])
    assert not AuditEvent.objects.filter(organization=world.acme, action="policy.changed").exists()


def test_limits_that_stay_keep_their_exceptions(world: World) -> None:
    policy = made(world, limits=[DAILY, LimitSpec("rpm", "minute", 5)])
    kept = policy.limits.get(kind="budget")
    Override.objects.create(organization=world.acme, group=world.root, limit=kept, kind="extra", amount=1, created_by=world.alice)
    change_policy(policy, by=world.actor("alice"), limits=[DAILY._replace(value=0)])
    assert [limit.pk for limit in policy.limits.all()] == [kept.pk]
    assert kept.overrides.count() == 1


def test_degrading_ends_when_both_parts_go(world: World) -> None:
    policy = made(world, degrade_percent=80, degrade_model="small")
    with pytest.raises(Refused):
        change_policy(policy, by=world.actor("alice"), degrade_percent=None)
    change_policy(policy, by=world.actor("alice"), degrade_percent=None, degrade_model="")
    assert Policy.objects.get(pk=policy.pk).degrade_percent is None


def test_rules_go_where_none_are_given(world: World) -> None:
    policy = made(world, rules={"models": ["a"], "members": [world.mia.email]})
    change_policy(policy, by=world.actor("alice"), rules={"models": ["  ", ""]})
    assert not Rule.objects.filter(policy=policy).exists()


@pytest.mark.parametrize("governed", ["root", "engineering", "field", "noah", "lena"])
def test_an_admin_changes_no_policy_that_governs_something_out_of_its_reach(world: World, governed: str) -> None:
    policy = made(world)
    alice, lena = world.actor("alice"), world.actor("lena")
    bind(policy, subject=world.gateway, by=alice)
    bind(policy, subject=getattr(world, governed), by=alice)
    with pytest.raises(NotAllowed):
        change_policy(policy, by=lena, limits=[])
    with pytest.raises(NotAllowed):
        delete_policy(policy, by=lena, confirmed=True)
    assert policy.limits.count() == 1


@pytest.mark.parametrize("governed", ["platform", "core", "sam", "mia", "key", "assistant"])
def test_an_admin_changes_what_governs_things_below_it_alone(world: World, governed: str) -> None:
    policy = made(world)
    bind(policy, subject=getattr(world, governed), by=world.actor("alice"))
    change_policy(policy, by=world.actor("lena"), limits=[])
    assert not policy.limits.exists()


def test_a_default_is_judged_by_its_group(world: World) -> None:
    policy = made(world)
    bind(policy, subject=world.engineering, reach="members", by=world.actor("alice"))
    with pytest.raises(NotAllowed):
        change_policy(policy, by=world.actor("lena"), limits=[])


def test_a_keys_own_policy_is_changed_on_its_page_alone(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    own = Policy.objects.get(dedicated=True, bindings__api_key=world.key)
    alice = world.actor("alice")
    for attempt in (change_policy, copy_policy, delete_policy):
        with pytest.raises(Refused):
            attempt(own, by=alice)


def test_workers_hear_of_a_change(committed_db: None) -> None:
    world = make_world()
    policy = made(world)
    before = redis.client().get(epoch.keys(world.acme.pk)[0])
    change_policy(policy, by=world.actor("alice"), limits=[])
    assert redis.client().get(epoch.keys(world.acme.pk)[0]) != before


# --- copies and deletion --------------------------------------------------------------------------


def test_a_copy_is_the_same_but_for_its_name_and_governs_nobody(world: World) -> None:
    rules = {"models": ["a*"], "members": [world.mia.email]}
    policy = made(world, rules=rules, description="why", observed_holds=True, degrade_percent=70, degrade_model="small")
    bind(policy, subject=world.gateway, by=world.actor("alice"))
    first, second = (copy_policy(policy, by=world.actor("lena")) for _ in range(2))
    assert (first.name, second.name) == ("Team (copy)", "Team (copy 2)")
    assert first.bindings.count() == 0
    assert [LimitSpec(limit.kind, limit.window, limit.value, limit.counts_byok) for limit in first.limits.all()] == [DAILY]
    assert {rule.kind: rule.entries for rule in first.rules.all()} == {"models": ["a*"], "members": [str(world.mia.pk)]}
    assert (first.description, first.observed_holds, first.degrade_percent, first.degrade_model) == ("why", True, 70, "small")


def test_a_copy_of_a_long_name_fits(world: World) -> None:
    assert len(copy_policy(made(world, "x" * 120), by=world.actor("alice")).name) <= 120


def test_what_governs_something_is_deleted_only_where_that_is_confirmed(world: World) -> None:
    policy, alice = made(world), world.actor("alice")
    bind(policy, subject=world.gateway, by=alice)
    bind(policy, subject=world.mia, by=alice)
    with pytest.raises(Refused, match="governs Mia, gateway"):
        delete_policy(policy, by=alice)
    delete_policy(policy, by=alice, confirmed=True)
    assert not Policy.objects.filter(pk=policy.pk).exists()
    event = last_event(world, "policy.deleted")
    assert event.before["bound to"] == ["Mia", "gateway"]
    assert event.before["budget day"] == CENT


def test_a_policy_is_deleted_once(world: World) -> None:
    policy = made(world)
    delete_policy(policy, by=world.actor("alice"))
    with pytest.raises(Refused, match="no such policy"):
        delete_policy(policy, by=world.actor("alice"))


def test_a_budget_says_whether_calls_on_own_provider_keys_count_in_it(world: World) -> None:
    policy = made(world, limits=[DAILY, LimitSpec("budget", "month", CENT, True)])
    counts = {limit.window: limit.counts_byok for limit in policy.limits.all()}
    assert counts == {"day": False, "month": True}
    changed = change_policy(policy, by=world.actor("alice"), limits=[DAILY._replace(counts_byok=True)])
    assert {limit.window: limit.counts_byok for limit in changed.limits.all()} == {"day": True}
    assert copy_policy(policy, by=world.actor("alice")).limits.get().counts_byok
    event = AuditEvent.objects.filter(action="policy.changed", object_id=str(policy.pk)).latest("pk")
    assert (event.before, event.after) == (
        {"budget month": CENT, "own keys in budget month": True},
        {"own keys in budget day": True},
    )


def test_only_budgets_count_them(world: World) -> None:
    with pytest.raises(Refused, match="Only a budget"):
        made(world, limits=[LimitSpec("rpm", "minute", 5, True)])


def test_a_policy_that_names_somebody_who_left_can_still_be_copied_and_changed(world: World) -> None:
    """Whoever left stays in the list: taken out, the last one would open the policy to everybody."""
    alice, mia = world.actor("alice"), str(world.mia.pk)
    policy = made(world, rules={"members": [world.mia.email]})
    Membership.objects.filter(user=world.mia, organization=world.acme).delete()
    copy = copy_policy(policy, by=alice)
    change_policy(copy, by=alice, rules={"members": [world.mia.email, world.sam.email]})
    assert copy.rules.get().entries == [mia, str(world.sam.pk)]
    with pytest.raises(Refused, match="is not the e-mail address of a member"):
        made(world, "Other", rules={"members": [world.mia.email]})
    change_policy(copy, by=alice, rules={"members": [world.sam.email]})
    with pytest.raises(Refused, match="is not the e-mail address of a member"):
        change_policy(copy, by=alice, rules={"members": [mia]})


def test_policies_are_told_apart_as_a_file_tells_them_apart(world: World) -> None:
    made(world, "Groß")
    with pytest.raises(Refused, match="of this name already"):
        made(world, "GROẞ")
