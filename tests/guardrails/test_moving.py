"""Who may move a group out from under a policy: whoever could take the policy off there."""

from __future__ import annotations

import pytest

from guardrails.models import Policy
from guardrails.services.bindings import bind, unbind
from guardrails.services.policies import LimitSpec, create_policy
from orgs.errors import Refused
from orgs.permissions import Permission, RoleName
from orgs.services.groups import create_group
from orgs.services.members import grant_role
from orgs.services.moves import move_group
from orgs.services.roles import create_role
from tests.actors import World


def governed(world: World, where: str, *, reach: str = "self") -> Policy:
    alice = world.actor("alice")
    made = create_policy(world.acme, name=f"Of {where}", limits=[LimitSpec("budget", "month", 10**9)], by=alice)
    bind(made, subject=world.group(where), reach=reach, by=alice)
    return made


def give(world: World, *permissions: Permission, at: str) -> None:
    alice = world.actor("alice")
    role = create_role(world.root, name=f"Role at {at}", permissions=permissions, by=alice)
    grant_role(world.noah, role=role, group=world.group(at), by=alice)


@pytest.mark.parametrize("reach", ["self", "members", "keys"])
@pytest.mark.parametrize("where", ["engineering", "platform"])
def test_who_manages_groups_alone_takes_none_out_from_under_a_policy(world: World, where: str, reach: str) -> None:
    give(world, Permission.MANAGE_GROUPS, at="root")
    governed(world, where, reach=reach)
    with pytest.raises(Refused, match=f"“Of {where}” of {where}") as refused:
        move_group(world.gateway, to=world.sales, by=world.actor("noah"))
    assert refused.value.field == "to"
    assert world.group("gateway").parent == world.platform
    move_group(world.gateway, to=world.sales, by=world.actor("alice"))
    assert world.group("gateway").parent == world.sales


def test_admins_of_two_places_do_not_escape_what_the_admin_above_set_for_one(world: World) -> None:
    """At its own node an admin manages no guardrails: nor does it move what is below away from them."""
    alice = world.actor("alice")
    for where in ("engineering", "sales"):
        grant_role(world.noah, role=RoleName.ADMIN, group=world.group(where), by=alice)
    governed(world, "platform")
    move_group(world.gateway, to=world.sales, by=world.actor("noah"))
    governed(world, "engineering")
    with pytest.raises(Refused, match="“Of engineering” of engineering"):
        move_group(world.platform, to=world.sales, by=world.actor("noah"))


@pytest.mark.parametrize("where", ["root", "gateway", "sales"])
def test_policies_that_still_apply_or_begin_to_hold_nothing_back(world: World, where: str) -> None:
    give(world, Permission.MANAGE_GROUPS, at="root")
    governed(world, where)
    move_group(world.gateway, to=world.sales, by=world.actor("noah"))
    assert world.group("gateway").parent == world.sales


def test_the_permission_at_the_place_that_is_left_is_enough(world: World) -> None:
    give(world, Permission.MANAGE_GROUPS, at="root")
    give(world, Permission.MANAGE_GUARDRAILS, at="engineering")
    governed(world, "platform")
    move_group(world.gateway, to=world.sales, by=world.actor("noah"))
    assert world.group("gateway").parent == world.sales


@pytest.mark.parametrize("reach", ["members", "keys"])
@pytest.mark.parametrize("above", ["root", "engineering"])
def test_a_default_of_the_new_place_does_not_free_from_one_above_both(world: World, above: str, reach: str) -> None:
    """Only the nearest group's defaults count: those of the new place would take the place of those above both places."""
    give(world, Permission.MANAGE_GROUPS, at="root")
    beside = create_group(world.engineering, name="beside", by=world.actor("alice"))
    governed(world, above, reach=reach)
    alice = world.actor("alice")
    wide = create_policy(world.acme, name="Wide", limits=[LimitSpec("budget", "month", 10**15)], by=alice)
    default = bind(wide, subject=beside, reach=reach, by=alice)
    with pytest.raises(Refused, match=f"“Of {above}” of ") as refused:
        move_group(world.gateway, to=beside, by=world.actor("noah"))
    assert refused.value.field == "to"
    assert world.group("gateway").parent == world.platform
    # A default of the other reach, or a policy on the new place itself, takes no default's place.
    unbind(default, by=alice)
    bind(wide, subject=beside, reach="keys" if reach == "members" else "members", by=alice)
    bind(wide, subject=beside, by=alice)
    move_group(world.gateway, to=beside, by=world.actor("noah"))
    assert world.group("gateway").parent == beside


@pytest.mark.parametrize("own_default", ["core", "gateway", "platform"])
def test_a_default_that_did_not_count_is_not_escaped(world: World, own_default: str) -> None:
    """Of gateway's own, and of what it leaves with the permission, the nearer one counted before; below it nothing counts."""
    alice = world.actor("alice")
    give(world, Permission.MANAGE_GROUPS, at="root")
    give(world, Permission.MANAGE_GUARDRAILS, at="engineering")
    beside = create_group(world.engineering, name="beside", by=alice)
    for where in ("root", own_default):
        governed(world, where, reach="members")
    wide = create_policy(world.acme, name="Wide", limits=[LimitSpec("budget", "month", 10**15)], by=alice)
    bind(wide, subject=beside, reach="members", by=alice)
    move_group(world.gateway, to=beside, by=world.actor("noah"))
    assert world.group("gateway").parent == beside


def test_who_could_give_the_group_a_default_of_its_own_moves_it_to_one(world: World) -> None:
    alice = world.actor("alice")
    beside = create_group(world.platform, name="beside", by=alice)
    governed(world, "root", reach="keys")
    wide = create_policy(world.acme, name="Wide", limits=[LimitSpec("budget", "month", 10**15)], by=alice)
    bind(wide, subject=beside, reach="keys", by=alice)
    move_group(world.core, to=beside, by=world.actor("sam"))
    assert world.group("core").parent == beside
