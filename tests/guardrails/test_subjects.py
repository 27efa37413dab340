"""What policies may be bound to: found by name or token, cut to what the actor may manage."""

from typing import Any

import pytest

from guardrails.services.bindings import bind
from guardrails.services.policies import create_policy
from guardrails.subjects import counter_of, described, find, nodes_governed, search, token_of
from orgs.services.groups import create_group
from orgs.services.keys import create_api_key, revoke_key
from orgs.services.members import add_member
from tests.actors import World


def found(world: World, name: str, words: str = "") -> set[str]:
    return {one.name for one in search(world.actor(name), words).found}


def test_everyone_finds_what_it_may_manage(world: World) -> None:
    assert found(world, "mia") == found(world, "noah") == set()
    assert found(world, "sam") == {"gateway", "core", "Mia", "Mia's key"}
    assert found(world, "lena") == {"platform", "gateway", "core", "Sam", "Mia", "Mia's key", "Assistant"}
    everything = found(world, "alice")
    assert everything >= {world.acme.name, "sales", "field", "Alice", "Lena", "Noah"}


def test_words_narrow_it(world: World) -> None:
    assert found(world, "alice", "mia") == {"Mia", "Mia's key"}
    assert found(world, "alice", world.key.last_four) >= {"Mia's key"}
    assert found(world, "alice", "nothing like it") == set()


def test_a_member_of_a_group_out_of_reach_is_not_found(world: World) -> None:
    add_member(world.mia, group=world.field, by=world.actor("alice"))
    assert "Mia" not in found(world, "lena")
    assert find(world.actor("lena"), f"m{world.mia.pk}") is None
    assert find(world.actor("alice"), f"m{world.mia.pk}") == world.mia


@pytest.mark.parametrize("name", ["root", "platform", "mia", "key", "assistant"])
def test_a_token_leads_back(world: World, name: str) -> None:
    subject: Any = getattr(world, name)
    assert find(world.actor("alice"), token_of(subject)) == subject
    assert find(world.actor("charlie"), token_of(subject)) is None
    assert find(world.actor("mia"), token_of(subject)) is None


@pytest.mark.parametrize("token", ["", "g", "x7", "g-1", "g1e3", "g٣", "g" + "9" * 30, "m0"])
def test_a_senseless_token_leads_nowhere(world: World, token: str) -> None:
    assert find(world.actor("alice"), token) is None


def test_a_deleted_key_is_not_found(world: World) -> None:
    revoke_key(world.key, by=world.actor("mia"))
    assert "Mia's key" not in found(world, "alice")
    assert find(world.actor("alice"), token_of(world.key)) is None


def test_each_says_where_it_stands(world: World) -> None:
    by_name = {one.name: one for one in search(world.actor("alice"), "").found}
    assert by_name["gateway"].where == f"{world.acme.name} / engineering / platform"
    assert by_name[world.acme.name].where == "the whole organisation"
    assert by_name["Mia"].where == "gateway"
    assert by_name["Mia's key"].where == "gateway"
    assert by_name["Assistant"].word == "application"
    assert described(world.mia).where == world.mia.email


def test_counters_bear_the_names_of_the_ledger(world: World) -> None:
    subjects = (world.root, world.platform, world.mia, world.key, world.assistant)
    pks = [subject.pk for subject in subjects]
    assert [counter_of(subject) for subject in subjects] == [
        "org",
        *(f"{letter}{pk}" for letter, pk in zip("gmka", pks[1:], strict=True)),
    ]


def test_a_policy_governs_the_nodes_of_all_that_it_is_bound_to(world: World) -> None:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name="Team", limits=[], by=alice)
    assert nodes_governed(policy) == []
    add_member(world.noah, group=world.core, by=alice)
    for subject in (world.engineering, world.noah, world.key, world.assistant):
        bind(policy, subject=subject, by=alice)
    assert {node.name for node in nodes_governed(policy)} == {"engineering", "field", "core", "gateway", "platform"}


def test_searching_costs_the_same_for_few_and_many(world: World, django_assert_max_num_queries: Any) -> None:
    actor = world.actor("alice")
    with django_assert_max_num_queries(7):
        search(actor, "")


def test_what_is_left_off_is_counted_by_kind(world: World) -> None:
    alice = world.actor("alice")
    assert search(alice, "").more == []
    for number in range(10):
        create_group(world.sales, name=f"Team {number}", by=alice)
    for number in range(8):
        create_api_key(world.gateway, name=f"More {number}", member=world.mia, by=alice)
    assert search(alice, "").more == ["9 more groups", "1 more key"]
    assert search(alice, "Team").more == ["2 more groups"]
    assert search(world.actor("sam"), "").more == ["1 more key"]
    assert search(alice, "More 7").more == []
