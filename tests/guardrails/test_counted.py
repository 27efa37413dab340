"""How many keys, how many members: asked before one more is made, whoever makes it."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from guardrails.models import Policy
from guardrails.services.bindings import bind
from guardrails.services.key_limits import create_limited_key
from guardrails.services.overrides import add_override, end_override
from guardrails.services.policies import LimitSpec, change_policy, create_policy
from orgs.errors import Refused
from orgs.models import ApiKey, Group, Membership
from orgs.services.applications import change_application
from orgs.services.departures import move_member
from orgs.services.keys import create_api_key, disable_key, edit_key, revoke_key
from orgs.services.members import add_member, suspend_member
from orgs.services.moves import move_group
from tests.actors import World, make_user


def bound(world: World, kind: str, value: int, subject: str, **options: Any) -> Policy:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name=f"{kind} {subject}", limits=[LimitSpec(kind, "now", value)], by=alice)
    bind(policy, subject=getattr(world, subject), by=alice, **options)
    return policy


def one_more_key(world: World, *, group: str = "gateway", member: str = "mia", **options: Any) -> ApiKey:
    wanted: dict[str, Any] = {"member": getattr(world, member), **options}
    return create_api_key(getattr(world, group), name="one more", by=world.actor("alice"), **wanted)[0]


def newcomer(world: World, name: str = "new") -> Any:
    return make_user(f"{name}.{world.acme.slug}@example.test", name=name.title())


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["root", "engineering", "platform", "gateway", "mia"])
def test_a_full_node_takes_no_more_keys(world: World, subject: str) -> None:
    bound(world, "keys", 2, subject)
    one_more_key(world)
    with pytest.raises(Refused, match=f"“keys {subject}” on .* allows 2 API keys, and there are 2 already"):
        one_more_key(world)
    assert ApiKey.objects.filter(organization=world.acme).count() == 2


def test_an_application_counts_its_own_keys(world: World) -> None:
    bound(world, "keys", 1, "assistant")
    one_more_key(world)
    one_more_key(world, application=world.assistant)
    with pytest.raises(Refused, match="on Assistant allows 1"):
        one_more_key(world, group="platform", member="sam", application=world.assistant)


def test_a_key_that_is_there_comes_to_no_full_application(world: World) -> None:
    bound(world, "keys", 1, "assistant")
    # Where they are at home two are the most already: an edit makes none more there.
    bound(world, "keys", 2, "gateway")
    alice = world.actor("alice")
    first = one_more_key(world, application=world.assistant)
    with pytest.raises(Refused, match="on Assistant allows 1 API key, and there is 1 already"):
        edit_key(world.key, name="mine", application=world.assistant, by=alice)
    assert edit_key(first, name="renamed", application=world.assistant, by=alice).name == "renamed"
    edit_key(first, name="renamed", by=alice)
    assert edit_key(world.key, name="mine", application=world.assistant, by=alice).application == world.assistant


@pytest.mark.parametrize(("most", "passes"), [(1, False), (2, True)])
def test_a_group_moves_to_no_place_that_its_keys_would_overfill(world: World, most: int, passes: bool) -> None:
    one_more_key(world)
    for subject, value in (("sales", most), ("root", 2), ("gateway", 2)):
        bound(world, "keys", value, subject)
    if passes:
        move_group(world.gateway, to=world.sales, by=world.actor("alice"))
        assert Group.objects.get(pk=world.gateway.pk).parent == world.sales
    else:
        with pytest.raises(Refused, match="on sales allows 1 API key, and there are 0 already, and 2 would come"):
            move_group(world.gateway, to=world.sales, by=world.actor("alice"))
        assert Group.objects.get(pk=world.gateway.pk).parent == world.platform


def test_a_group_without_keys_moves_anywhere(world: World) -> None:
    bound(world, "keys", 0, "engineering")
    assert move_group(world.sales, to=world.engineering, by=world.actor("alice"))


@pytest.mark.parametrize("subject", ["sales", "core", "noah"])
def test_a_limit_beside_the_path_counts_nothing(world: World, subject: str) -> None:
    bound(world, "keys", 0, subject)
    assert one_more_key(world)


def test_a_deleted_key_leaves_its_place_and_a_disabled_one_does_not(world: World) -> None:
    bound(world, "keys", 1, "mia")
    disable_key(world.key, by=world.actor("mia"))
    with pytest.raises(Refused):
        one_more_key(world)
    revoke_key(world.key, by=world.actor("mia"))
    assert one_more_key(world)


def mias(world: World) -> Membership:
    return Membership.objects.get(user=world.mia, organization=world.acme)


@pytest.mark.parametrize(("most", "words"), [(0, "there are 0 already"), (1, "there are 0 already, and 2 would come")])
def test_keys_that_come_with_their_member_need_room_too(world: World, most: int, words: str) -> None:
    policy = bound(world, "keys", most, "core")
    for _ in range(most):
        one_more_key(world)
    with pytest.raises(Refused, match=words):
        move_member(mias(world), group=world.core, by=world.actor("alice"))
    assert (mias(world).group, ApiKey.objects.get(pk=world.key.pk).group) == (world.gateway, world.gateway)
    change_policy(policy, by=world.actor("alice"), limits=[LimitSpec("keys", "now", most + 1)])
    move_member(mias(world), group=world.core, by=world.actor("alice"))


def test_keys_that_lay_below_a_full_node_already_move_below_it(world: World) -> None:
    bound(world, "keys", 1, "platform")
    move_member(mias(world), group=world.core, by=world.actor("alice"))
    assert ApiKey.objects.get(pk=world.key.pk).group == world.core


def test_service_keys_that_come_with_their_application_need_room_too(world: World) -> None:
    alice = world.actor("alice")
    key, _ = create_api_key(world.platform, name="nightly", application=world.assistant, by=alice)
    policy = bound(world, "keys", 0, "sales")
    with pytest.raises(Refused, match="“keys sales” on sales allows 0 API keys"):
        change_application(world.assistant, group=world.sales, by=alice)
    assert ApiKey.objects.get(pk=key.pk).group == world.platform
    change_policy(policy, by=alice, limits=[LimitSpec("keys", "now", 1)])
    change_application(world.assistant, group=world.sales, by=alice)
    assert ApiKey.objects.get(pk=key.pk).group == world.sales


def test_what_is_too_many_already_stays(world: World) -> None:
    policy = bound(world, "keys", 3, "root")
    one_more_key(world)
    change_policy(policy, by=world.actor("alice"), limits=[LimitSpec("keys", "now", 1)])
    assert {key.status for key in ApiKey.objects.filter(organization=world.acme)} == {"active"}
    with pytest.raises(Refused, match="allows 1 API key, and there are 2"):
        one_more_key(world)


def test_a_default_counts_for_each_member(world: World) -> None:
    bound(world, "keys", 1, "engineering", reach="members")
    assert one_more_key(world, group="platform", member="sam")
    with pytest.raises(Refused, match="on Mia allows 1"):
        one_more_key(world)


def test_a_policy_of_ones_own_takes_the_place_of_the_default(world: World) -> None:
    bound(world, "keys", 1, "engineering", reach="members")
    bound(world, "keys", 5, "mia")
    assert one_more_key(world)


def test_an_exception_widens_it_for_a_time(world: World) -> None:
    limit = bound(world, "keys", 1, "mia").limits.get()
    until = timezone.now() + timedelta(days=1)
    override = add_override(limit, subject=world.mia, amount=1, until=until, by=world.actor("alice"))
    one_more_key(world)
    with pytest.raises(Refused, match="allows 2"):
        one_more_key(world)
    end_override(override, by=world.actor("alice"))
    with pytest.raises(Refused, match="allows 1"):
        one_more_key(world)


def test_a_refused_key_leaves_nothing_behind(world: World) -> None:
    bound(world, "keys", 1, "mia")
    with pytest.raises(Refused):
        create_limited_key(world.gateway, name="x", member=world.mia, by=world.actor("mia"))
    assert ApiKey.objects.filter(organization=world.acme).count() == 1


# --- seats ----------------------------------------------------------------------------------------


def test_a_full_node_takes_no_more_members(world: World) -> None:
    bound(world, "seats", 2, "platform")
    with pytest.raises(Refused, match="“seats platform” on platform allows 2 members, and there are 2 already"):
        add_member(newcomer(world), group=world.core, by=world.actor("alice"))
    add_member(newcomer(world, "other"), group=world.sales, by=world.actor("alice"))


def test_a_group_moves_to_no_place_that_its_members_would_overfill(world: World) -> None:
    def people(group: Group) -> set[int]:
        return set(Membership.objects.filter(group__in=group.get_descendants(include_self=True)).values_list("user", flat=True))

    together = people(world.gateway) | people(world.sales)
    policy = bound(world, "seats", len(together) - 1, "sales")
    with pytest.raises(Refused, match=r"on sales allows \d members?"):
        move_group(world.gateway, to=world.sales, by=world.actor("alice"))
    change_policy(policy, name=policy.name, limits=[LimitSpec("seats", "now", len(together))], by=world.actor("alice"))
    assert move_group(world.gateway, to=world.sales, by=world.actor("alice"))


def test_whoever_has_a_seat_needs_no_second_one(world: World) -> None:
    bound(world, "seats", 2, "platform")
    add_member(world.mia, group=world.core, by=world.actor("alice"))
    with pytest.raises(Refused):
        add_member(world.noah, group=world.core, by=world.actor("alice"))


def test_a_suspended_member_keeps_the_seat(world: World) -> None:
    bound(world, "seats", 2, "platform")
    suspend_member(world.actor("mia").memberships[0], by=world.actor("lena"))
    with pytest.raises(Refused):
        add_member(newcomer(world), group=world.platform, by=world.actor("alice"))


def test_members_beyond_a_lowered_limit_stay(world: World) -> None:
    bound(world, "seats", 0, "root")
    assert Membership.objects.filter(organization=world.acme).count() == 5
    with pytest.raises(Refused, match="allows 0 members, and there are 5"):
        add_member(newcomer(world), group=world.root, by=world.actor("alice"))


def test_seats_of_members_and_keys_mean_nothing(world: World) -> None:
    bound(world, "seats", 0, "mia")
    assert add_member(world.mia, group=world.core, by=world.actor("alice"))
