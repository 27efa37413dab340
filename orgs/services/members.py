from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.utils import timezone

from gateway_project.lib.written import Written
from orgs import checks
from orgs.actor import LINEAGE, Actor, grants_of
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import ApiKey, Group, Membership, Organization, Role, RoleGrant, User
from orgs.permissions import Permission
from orgs.powers import AnyRole, reaches, require_power, role_of
from orgs.selectors import super_admins
from orgs.services.changes import changing, fresh_group, refuse_archived
from orgs.services.homes import stop_stranded

_MEMBERSHIP: Written[Membership] = Written(
    lambda pk: Membership.objects.filter(pk=pk).select_related("user", "organization", LINEAGE), int
)


def add_member(user: User, *, group: Group, by: Actor) -> Membership:
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_MEMBERS, group)
        refuse_archived(group)
        if by.organization.kind == Organization.Kind.PERSONAL:
            raise Refused("A personal account has one member: create an organisation to work with others.")
        if Membership.objects.filter(user=user, group=group).exists():
            raise Refused(f"{user} is already a member of {group}.", field="user")
        checks.refuse_seat(group, user=user)
        refuse_suspended(user, group)
        membership = Membership.objects.create(user=user, organization=by.organization, group=group)
        audit("member.added", by=by, target=membership, after={"user": user.pk, "group": group.pk})
    return membership


def suspend_member(membership: Membership, *, by: Actor) -> Membership:
    """Ends the person's rights and keys in this node and below it. Who holds grants there is suspended by who may grant them."""
    with changing(by.organization):
        membership = fresh_membership(membership)
        by.require(Permission.MANAGE_MEMBERS, membership.group)
        if membership.suspended_at:
            return membership
        require_power_over_grants(membership, by=by)
        with keeping_super_admin(by.organization):
            membership.suspended_at = timezone.now()
            membership.save(update_fields=["suspended_at"])
        audit("member.suspended", by=by, target=membership)
    return membership


def resume_member(membership: Membership, *, by: Actor) -> Membership:
    """The opposite of suspend_member, under the same rules."""
    with changing(by.organization):
        membership = fresh_membership(membership)
        by.require(Permission.MANAGE_MEMBERS, membership.group)
        if membership.suspended_at:
            require_power_over_grants(membership, by=by)
            # It has a seat; whom its directory has deactivated stays out.
            checks.refuse_seat(membership.group, user=membership.user)
            membership.suspended_at = None
            membership.save(update_fields=["suspended_at"])
            audit("member.resumed", by=by, target=membership)
    return membership


def grant_role(user: User, *, role: AnyRole, group: Group, by: Actor) -> RoleGrant:
    """A shipped role, or a custom one at its home group or below. Raises NotAllowed where it gives more than `by` may do."""
    with changing(by.organization):
        group = fresh_group(group)
        if isinstance(role, Role):
            role = fresh_role(role, by=by)
        require_power(role, group, by=by)
        refuse_archived(group)
        refuse_unreached(role, group)
        if not Membership.objects.filter(user=user, organization=by.organization, suspended_at=None).exists():
            raise Refused(f"{user} is not an active member of {by.organization}: add them first.", field="user")
        refuse_suspended(user, group)
        grant = insert_grant(user, role=role, group=group)
        audit("role.granted", by=by, target=grant, after=_grant_facts(grant))
    return grant


def revoke_role(grant: RoleGrant, *, by: Actor) -> list[ApiKey]:
    """→ the person's keys that stop, since nothing else lets them be where they are. Raises NotAllowed where it gives more than
    `by` may do there."""
    with changing(by.organization):
        found = RoleGrant.objects.filter(pk=grant.pk).select_related("user", "custom_role", LINEAGE).first()
        if found is None:
            return []
        require_power(role_of(found), found.group, by=by)
        with keeping_super_admin(by.organization):
            end_grant(found, by=by)
        return stop_stranded(found.user, below=found.group, by=by)


def insert_grant(user: User, *, role: AnyRole, group: Group) -> RoleGrant:
    """Without asking who may: part of a change. Raises Refused where the person has it."""
    custom = role if isinstance(role, Role) else None
    wanted = {"role": "" if isinstance(role, Role) else role.value, "custom_role": custom}
    if RoleGrant.objects.filter(user=user, group=group, **wanted).exists():
        raise Refused(f"{user} already has this role at {group}.", field="role")
    return RoleGrant.objects.create(user=user, organization=group.organization, group=group, **wanted)


def end_grant(grant: RoleGrant, *, by: Actor) -> None:
    """Without asking who may: part of a change."""
    audit("role.revoked", by=by, target=grant, before=_grant_facts(grant))
    grant.delete()


def fresh_role(role: Role, *, by: Actor) -> Role:
    """As it is now, under the lock. Raises Refused where it was deleted."""
    found = Role.objects.filter(organization=by.organization, pk=role.pk).select_related(LINEAGE).first()
    if found is None:
        raise Refused("This role was deleted.", field="role")
    return found


def refuse_unreached(role: AnyRole, group: Group) -> None:
    if isinstance(role, Role) and not reaches(role, group):
        raise Refused(f"The role “{role}” can be granted at {role.group} and below.", field="role")


def _grant_facts(grant: RoleGrant) -> dict[str, Value]:
    return {"user": grant.user_id, "group": grant.group_id, "role": grant.custom_role.name if grant.custom_role else grant.role}


def fresh_membership(membership: Membership) -> Membership:
    """As it is now, under the lock. Raises Refused where it was removed meanwhile."""
    found = _MEMBERSHIP.sole(membership.pk)
    if found is None:
        raise Refused(f"{membership.user} is no member there any more.")
    return found


def refuse_suspended(user: User, group: Group) -> None:
    """A suspension reaches the subtree: what is given there would not count.

    Of somebody with no live membership it reaches everything: another one would bring back roles and keys everywhere.
    """
    own = Membership.objects.filter(user=user, organization=group.organization_id)
    suspended = set(own.filter(suspended_at__isnull=False).values_list("group_id", flat=True))
    if suspended.intersection(group.lineage()) or (suspended and not own.filter(suspended_at=None).exists()):
        raise Refused(f"{user} is suspended there: resume the membership first.", field="user")


def require_power_over_grants(membership: Membership, *, by: Actor) -> None:
    """An admin cannot end, or bring back, the rights of an admin beside or above itself by way of the membership.

    With the last live membership all of a person's rights end, wherever they are.
    """
    live = Membership.objects.filter(user=membership.user_id, organization=by.organization, suspended_at=None)
    is_last = not live.exclude(pk=membership.pk).exists()
    for grant in grants_of(membership.user, organization=by.organization):
        if is_last or membership.group.contains(grant.group):
            require_power(role_of(grant), grant.group, by=by)


@contextmanager
def keeping_super_admin(organization: Organization) -> Iterator[None]:
    """Around what may take the last Super Admin. Raises Refused.

    Where the operator has frozen the last one, there is none to take: who leaves meanwhile can still be suspended and removed.
    """
    had_one = bool(super_admins(organization))
    yield
    if had_one and not super_admins(organization):
        raise Refused("An organisation needs at least one Super Admin: appoint another one first.")
