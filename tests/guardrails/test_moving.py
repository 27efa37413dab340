"""Who may move a group out from under a policy: whoever could take the policy off there."""

from __future__ import annotations

import pytest

from guardrails.models import Policy
from guardrails.services.bindings import bind
from guardrails.services.policies import LimitSpec, create_policy
from orgs.errors import Refused
from orgs.permissions import Permission, RoleName
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
