"""What a move changes, said before it is made: a registry that the apps above fill at start-up.

A reader gets the group as it is, with its path loaded, the group it would lie in, and who asks: figures that this actor may not
see are left out. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from orgs.actor import Actor
from orgs.models import Group, RoleGrant, User
from orgs.permissions import RoleName


class Consequence(NamedTuple):
    """`kind`: what applies from now on, what no longer does, or what is worth knowing."""

    kind: Literal["now", "ended", "note"]
    text: str


Reader = Callable[[Group, Group, Actor], list[Consequence]]

_readers: list[Reader] = []


def of_moves(reader: Reader) -> None:
    if reader not in _readers:
        _readers.append(reader)


def of_move(group: Group, to: Group, *, by: Actor, grants: list[RoleGrant] | None = None) -> list[Consequence]:
    """`grants`: those that `grants_about` finds, where they are loaded already."""
    return [
        *_admins(group, to, grants_about(group, to) if grants is None else grants),
        *(found for reader in _readers for found in reader(group, to, by)),
    ]


def left_and_joined(group: Group, to: Group) -> tuple[list[Group], list[Group]]:
    """The groups that would no longer be above it, and those that would be; from the top down."""
    old, new = group.path()[:-1], to.path()
    ids = {node.pk for node in old}, {node.pk for node in new}
    return [node for node in old if node.pk not in ids[1]], [node for node in new if node.pk not in ids[0]]


def grants_about(group: Group, to: Group) -> list[RoleGrant]:
    """Roles at the groups that would no longer be above it, at those that would be, and at the group itself."""
    left, joined = left_and_joined(group, to)
    found = RoleGrant.objects.filter(group__in=[*left, *joined, group]).select_related("user", "group", "custom_role")
    return list(found.order_by("group__level", "pk"))


def _admins(group: Group, to: Group, every: list[RoleGrant]) -> list[Consequence]:
    left, _ = left_and_joined(group, to)
    grants = [grant for grant in every if grant.group_id != group.pk]
    ended = {node.pk for node in left}
    found = [
        Consequence("ended", f"{_name(grant.user)}, {grant.label} of {grant.group}, has no more rights here.")
        if grant.group_id in ended
        else Consequence("now", f"{_name(grant.user)}, {grant.label} of {grant.group}, has rights here.")
        for grant in grants
    ]
    if group.level != to.level + 1 and any(grant.group_id == group.pk and grant.role == RoleName.ADMIN for grant in every):
        words = {1: "L1 Admins, who may top up credit and keep provider keys"}.get(to.level + 1, "Sub-admins")
        found.append(Consequence("note", f"Admins of {group} become {words}."))
    return found


def _name(user: User) -> str:
    return user.display_name
