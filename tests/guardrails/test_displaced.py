"""Defaults that a new binding takes the place of: what is said beforehand is what then ends, for whomever."""

from __future__ import annotations

from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrails.displaced import displaced_by, whom_words, words
from guardrails.in_force import in_force
from guardrails.models import Binding, Policy
from guardrails.subjects import column_of, token_of
from orgs.models import Membership
from tests.actors import World
from tests.examples import some

GROUPS = ("root", "engineering", "platform", "gateway", "core", "sales", "field")
OTHERS = ("alice", "lena", "sam", "mia", "noah", "key", "assistant")
places = st.tuples(st.sampled_from(GROUPS), st.sampled_from(["self", "members", "keys"])) | st.tuples(
    st.sampled_from(OTHERS), st.just("self")
)
bindings = st.tuples(st.integers(0, 2), places)


def bind_row(world: World, policy: Policy, place: tuple[str, str]) -> None:
    subject = getattr(world, place[0])
    Binding.objects.get_or_create(organization=world.acme, policy=policy, reach=place[1], **{column_of(subject): subject})


def given_now(world: World) -> set[tuple[str, str]]:
    """(policy, whom it comes to) of all defaults."""
    members = Membership.objects.filter(organization=world.acme).select_related("user", "group")
    found = [one for each in members for one in in_force(world.acme, path=each.group.path(), member=each.user)]
    found += in_force(world.acme, path=world.key.group.path(), member=world.mia, key=world.key)
    return {(one.policy.name, token_of(one.subject)) for one in found if column_of(one.subject) in ("member", "api_key")}


@settings(max_examples=some(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(bindings, max_size=6), bindings)
def test_what_is_said_to_end_ends_and_nothing_else_does(
    world: World, standing: list[tuple[int, tuple[str, str]]], new: tuple[int, tuple[str, str]]
) -> None:
    with transaction.atomic():
        policies = [Policy.objects.create(organization=world.acme, name=f"P{index}") for index in range(3)]
        for index, place in standing:
            bind_row(world, policies[index], place)
        index, (name, reach) = new
        before, subject = given_now(world), getattr(world, name)
        said = displaced_by(policies[index], subject=subject, reach=reach, organization=world.acme)
        bind_row(world, policies[index], (name, reach))
        assert {one.policy.name for one in said} == {policy for policy, _ in before - given_now(world)}
        transaction.set_rollback(True)


def test_the_words_name_each_policy_once(world: World) -> None:
    policies = [Policy(name=name) for name in "ABC"]
    found = [Binding(policy=policy, group=world.root, reach="members") for policy in (*policies, policies[0])]
    assert words([], whom="Mia") == ""
    assert words(found[:1], whom="Mia") == "“A” no longer applies to Mia"
    assert words(found, whom=whom_words("sales", reach="keys")) == "“A”, “B” and “C” no longer apply to the keys below sales"
