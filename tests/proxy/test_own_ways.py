"""Why a call is refused is said with whom to ask, but to whoever may change that themself."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import ApiKey
from proxy import permits, refusals
from proxy.errors import BudgetExceeded, ModelNotAllowed, ProxyError
from proxy.own_ways import own_way, without_ask
from tests.actors import World

CENT = 10_000_000


def refused(policy: str, ask: str = refusals.RAISE, **detail: Any) -> ProxyError:
    kind = ModelNotAllowed if ask == permits.ASK else BudgetExceeded
    return kind(f"It does not cover this call. It never resets; {ask}.", detail={"policy": policy, "ask": ask, **detail})


def governing(world: World, subject: str) -> str:
    policy = create_policy(world.acme, name=f"On {subject}", limits=[LimitSpec("budget", "month", CENT)], by=world.actor("alice"))
    bind(policy, subject=getattr(world, subject), by=world.actor("alice"))
    return policy.name


@pytest.mark.parametrize(
    ("name", "subject", "may"),
    [
        ("alice", "root", True),
        ("alice", "platform", True),
        ("lena", "platform", True),
        ("lena", "engineering", False),
        ("lena", "root", False),
        ("sam", "platform", False),
        ("sam", "gateway", True),
        ("mia", "gateway", False),
        ("noah", "gateway", False),
    ],
)
def test_who_manages_what_a_policy_governs_raises_it_themself(world: World, name: str, subject: str, may: bool) -> None:
    policy = governing(world, subject)
    ask = refusals.RAISE_ALL if subject == "root" else refusals.RAISE
    way = own_way(refused(policy, ask), actor=world.actor(name), key=world.key)
    assert (way is not None) is may
    if way is not None:
        assert way.words == "You can raise it"
        assert way.url.startswith(f"/o/{world.acme.slug}/guardrails/")


def test_a_rule_is_changed_and_what_no_policy_says_is_nobodys(world: World) -> None:
    alice, policy = world.actor("alice"), governing(world, "platform")
    way = own_way(refused(policy, permits.ASK), actor=alice)
    assert way is not None
    assert way.words == "You can change it"
    for ask in (refusals.TOP_UP, permits.ASK_APPROVAL, permits.ASK_ZDR, ""):
        assert own_way(refused(policy, ask), actor=alice) is None
    assert own_way(refused("Another"), actor=alice) is None
    assert own_way(refused(policy), actor=world.actor("charlie")) is None
    assert own_way(BudgetExceeded("It is used up."), actor=alice) is None


@pytest.mark.parametrize(
    ("setter", "name", "may"),
    [("mia", "mia", True), ("mia", "sam", True), ("sam", "mia", False), ("sam", "sam", True), ("mia", "noah", False)],
)
def test_a_keys_own_limit_is_its_members_until_somebody_else_has_set_one(world: World, setter: str, name: str, may: bool) -> None:
    set_key_limits(world.key, by=world.actor(setter), monthly_nano_usd=CENT)
    key = ApiKey.objects.select_related("group__parent__parent__parent").get(pk=world.key.pk)
    way = own_way(refused(f"Limits of {key.name}"), actor=world.actor(name), key=key)
    assert (way.url if way else None) == (f"/o/{world.acme.slug}/keys/{key.pk}/limits/" if may else None)


def test_the_sentence_then_ends_before_whom_to_ask() -> None:
    assert without_ask(refused("Team")) == "It does not cover this call. It never resets."
