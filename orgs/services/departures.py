"""Moving members, removing them, and leaving: what happens to their roles and keys.

* Moved: the keys at home in the old group move along, so that programs go on and spend from the new group's budgets from
  their next call on; what was spent stays where it was. So do those below it that only a role which ends let be there. A
  key that names an application which keys of the new group may not name stays behind, disabled. Roles at the old group and
  below end, or stay if that is asked for.
* Removed: roles and keys at the node and below end at once, except where another membership of the person below that
  node carries them; with the last membership all of them end. What was used stays in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from orgs import checks
from orgs.actor import LINEAGE, Actor, grants_of
from orgs.audit import audit
from orgs.errors import Refused
from orgs.models import ApiKey, Group, Membership, Organization, RoleGrant, User
from orgs.permissions import Permission
from orgs.services.changes import changing, fresh_group, refuse_archived
from orgs.services.homes import disable, may_be_home
from orgs.services.members import (
    end_grant,
    fresh_membership,
    keeping_super_admin,
    refuse_suspended,
    require_power_over_grants,
)


class Move(NamedTuple):
    """What moving takes along, leaves behind and ends."""

    moved: list[ApiKey]
    stopped: list[ApiKey]
    roles: list[RoleGrant]


class Loss(NamedTuple):
    """What ends with a membership, or stops with it."""

    keys: list[ApiKey]
    roles: list[RoleGrant]


def move_member(membership: Membership, *, group: Group, by: Actor, keep_roles: bool = False) -> Membership:
    """To another group of the organisation. Raises Refused, NotAllowed."""
    with changing(by.organization):
        membership, group = fresh_membership(membership), fresh_group(group)
        by.require(Permission.MANAGE_MEMBERS, membership.group)
        by.require(Permission.MANAGE_MEMBERS, group)
        require_power_over_grants(membership, by=by)
        _refuse_move(membership, group)
        move = what_moves(membership, group=group, keep_roles=keep_roles)
        checks.refuse_moved_keys(move.moved, to=group)
        before = membership.group
        with keeping_super_admin(by.organization):
            membership.group = group
            membership.save(update_fields=["group"])
            _move_keys(move, group=group, by=by)
            _end_roles(move.roles, by=by)
        audit("member.moved", by=by, target=membership, before={"group": before.pk}, after={"group": group.pk})
    return membership


def remove_member(membership: Membership, *, by: Actor) -> None:
    """Raises Refused, NotAllowed: a role that ends with it must be one that `by` may end."""
    with changing(by.organization):
        membership = fresh_membership(membership)
        by.require(Permission.MANAGE_MEMBERS, membership.group)
        require_power_over_grants(membership, by=by)
        with keeping_super_admin(by.organization):
            _end(membership, what_ends(membership), by=by, action="member.removed")


def leave_organization(by: Actor) -> None:
    """Whoever belongs to an organisation may leave it. Raises Refused for its last Super Admin, at home, and for who is suspended
    somewhere in it: an open link would bring them back without."""
    with changing(by.organization):
        if by.organization.kind == Organization.Kind.PERSONAL:
            raise Refused("This is your personal account.")
        memberships = list(_memberships(by.user, by.organization))
        if not memberships:
            raise Refused(f"You do not belong to {by.organization}.")
        if suspended := next((membership.group for membership in memberships if membership.suspended_at), None):
            raise Refused(f"You are suspended at {suspended}: ask an admin there to remove you.")
        with keeping_super_admin(by.organization):
            for membership in memberships:
                _end(membership, what_ends(membership), by=by, action="member.left")


def what_moves(membership: Membership, *, group: Group | None, keep_roles: bool = False) -> Move:
    """`group` None: it is not chosen yet, and may take less along than the others."""
    left, held = membership.group, _roles(membership)
    there = group.contains if group else (lambda node: False)
    roles = [grant for grant in held if left.contains(grant.group) and not there(grant.group) and not keep_roles]
    may_stay = _may_stay(membership, [grant for grant in held if grant not in roles])
    inside = [key for key in _live_keys(membership) if left.contains(key.group)]
    keys = [key for key in inside if key.group == left or not (there(key.group) or may_stay(key.group))]
    if group is None:
        return Move(keys, [], roles)
    lineage = set(group.lineage())
    stopped = [key for key in keys if key.application and key.application.group_id not in lineage]
    return Move([key for key in keys if key not in stopped], stopped, roles)


def _may_stay(membership: Membership, grants: Iterable[RoleGrant]) -> Callable[[Group], bool]:
    """Where keys of the person may be at home once this membership is elsewhere, by these roles."""
    others = {other.group_id for other in _memberships(membership.user, membership.organization) if other.pk != membership.pk}
    return may_be_home(others, grants)


def what_ends(membership: Membership) -> Loss:
    lost = _lost_with(membership)
    keys = [key for key in _live_keys(membership) if lost(key.group)]
    return Loss(keys, [grant for grant in _roles(membership) if lost(grant.group)])


def what_stops(membership: Membership) -> Loss:
    """While it is suspended: what is at its node and below; without another live membership, everything."""
    others = [one for one in _memberships(membership.user, membership.organization) if one.pk != membership.pk]
    last = all(other.suspended_at for other in others)
    keys = [key for key in _live_keys(membership).filter(disabled_at=None) if last or membership.group.contains(key.group)]
    return Loss(keys, [grant for grant in _roles(membership) if last or membership.group.contains(grant.group)])


def _lost_with(membership: Membership) -> Callable[[Group], bool]:
    """Whether what the person has at a group is lost with this membership."""
    others = [other for other in _memberships(membership.user, membership.organization) if other.pk != membership.pk]
    inner = [other.group for other in others if membership.group.contains(other.group)]

    def lost(group: Group) -> bool:
        return not others or (membership.group.contains(group) and not any(kept.contains(group) for kept in inner))

    return lost


def _end(membership: Membership, loss: Loss, *, by: Actor, action: str) -> None:
    _end_roles(loss.roles, by=by)
    now = timezone.now()
    for key in loss.keys:
        ApiKey.objects.filter(pk=key.pk).update(revoked_at=now)
        audit("key.revoked", by=by, target=key, before={"public_id": key.public_id, "group": key.group_id})
    audit(action, by=by, target=membership, before={"user": membership.user_id, "group": membership.group_id})
    membership.delete()


def _end_roles(grants: Iterable[RoleGrant], *, by: Actor) -> None:
    for grant in grants:
        end_grant(grant, by=by)


def _refuse_move(membership: Membership, group: Group) -> None:
    """Raises Refused."""
    user = membership.user
    if group.pk == membership.group_id:
        raise Refused(f"{user} is in {group} already.", field="group")
    if membership.suspended_at:
        raise Refused(f"{user} is suspended there: resume the membership first.")
    refuse_archived(group)
    if Membership.objects.filter(user=user, group=group).exists():
        raise Refused(f"{user} is already a member of {group}.", field="group")
    refuse_suspended(user, group)
    checks.refuse_seat(group, user=user)


def _move_keys(move: Move, *, group: Group, by: Actor) -> None:
    now = timezone.now()
    for key in move.moved:
        ApiKey.objects.filter(pk=key.pk).update(group=group)
        audit("key.moved", by=by, target=key, before={"group": key.group_id}, after={"group": group.pk})
    for key in move.stopped:
        # What its member had disabled itself, it could enable again where it belongs no more.
        if not key.disabled_at or key.disabled_by_id == key.member_id:
            disable(key, at=now, by=by.account)
            audit("key.disabled", by=by, target=key)


def _memberships(user: User, organization: Organization) -> Iterable[Membership]:
    return Membership.objects.filter(user=user, organization=organization).select_related("user", "organization", LINEAGE)


def _live_keys(membership: Membership) -> QuerySet[ApiKey]:
    keys = ApiKey.objects.filter(organization=membership.organization_id, member=membership.user_id, revoked_at=None)
    return keys.select_related("application", LINEAGE).order_by("pk")


def _roles(membership: Membership) -> list[RoleGrant]:
    return list(grants_of(membership.user, organization=membership.organization))
