from __future__ import annotations

from django.utils import timezone

from orgs import checks
from orgs.actor import LINEAGE, Actor
from orgs.audit import audit
from orgs.errors import Refused
from orgs.models import Group, Membership, Organization, RoleGrant, User
from orgs.permissions import Permission, RoleName
from orgs.services.changes import changing, fresh_group, refuse_archived


def add_member(user: User, *, group: Group, by: Actor) -> Membership:
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_MEMBERS, group)
        refuse_archived(group)
        if by.organization.kind == Organization.Kind.PERSONAL:
            raise Refused("A personal account has one member: create an organisation to work with others.")
        if Membership.objects.filter(user=user, group=group).exists():
            raise Refused(f"{user} is already a member of {group}.", field="user")
        _refuse_suspended(user, group)
        checks.refuse_seat(group, user=user)
        membership = Membership.objects.create(user=user, organization=by.organization, group=group)
        audit("member.added", by=by, target=membership, after={"user": user.pk, "group": group.pk})
    return membership


def suspend_member(membership: Membership, *, by: Actor) -> Membership:
    """Ends the person's rights and keys in this node and below it. Who holds grants there is suspended by who may grant them."""
    with changing(by.organization):
        membership = _fresh_membership(membership)
        by.require(Permission.MANAGE_MEMBERS, membership.group)
        if membership.suspended_at:
            return membership
        _require_power_over_grants(membership, by=by)
        membership.suspended_at = timezone.now()
        membership.save(update_fields=["suspended_at"])
        _refuse_no_super_admin(by.organization)
        audit("member.suspended", by=by, target=membership)
    return membership


def resume_member(membership: Membership, *, by: Actor) -> Membership:
    """The opposite of suspend_member, under the same rules."""
    with changing(by.organization):
        membership = _fresh_membership(membership)
        by.require(Permission.MANAGE_MEMBERS, membership.group)
        if membership.suspended_at:
            _require_power_over_grants(membership, by=by)
            membership.suspended_at = None
            membership.save(update_fields=["suspended_at"])
            audit("member.resumed", by=by, target=membership)
    return membership


def grant_role(user: User, *, role: RoleName, group: Group, by: Actor) -> RoleGrant:
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.GRANT_ROLES, group)
        if not Membership.objects.filter(user=user, organization=by.organization, suspended_at=None).exists():
            raise Refused(f"{user} is not an active member of {by.organization}: add them first.", field="user")
        _refuse_suspended(user, group)
        if RoleGrant.objects.filter(user=user, group=group, role=role).exists():
            raise Refused(f"{user} already has this role at {group}.", field="role")
        grant = RoleGrant.objects.create(user=user, organization=by.organization, group=group, role=role)
        audit("role.granted", by=by, target=grant, after={"user": user.pk, "group": group.pk, "role": role.value})
    return grant


def revoke_role(grant: RoleGrant, *, by: Actor) -> None:
    with changing(by.organization):
        grant = RoleGrant.objects.select_related("user", LINEAGE).get(pk=grant.pk)
        by.require(Permission.GRANT_ROLES, grant.group)
        audit("role.revoked", by=by, target=grant, before={"user": grant.user_id, "group": grant.group_id, "role": grant.role})
        grant.delete()
        _refuse_no_super_admin(by.organization)


def _fresh_membership(membership: Membership) -> Membership:
    return Membership.objects.select_related("user", LINEAGE).get(pk=membership.pk)


def _refuse_suspended(user: User, group: Group) -> None:
    """A suspension reaches the subtree: what is given there would not count."""
    if Membership.objects.filter(user=user, group__in=group.lineage(), suspended_at__isnull=False).exists():
        raise Refused(f"{user} is suspended there: resume the membership first.", field="user")


def _require_power_over_grants(membership: Membership, *, by: Actor) -> None:
    """An admin cannot end, or bring back, the rights of an admin beside or above itself by way of the membership."""
    for grant in RoleGrant.objects.filter(user=membership.user_id, organization=by.organization).select_related(LINEAGE):
        if membership.group.contains(grant.group):
            by.require(Permission.GRANT_ROLES, grant.group)


def _refuse_no_super_admin(organization: Organization) -> None:
    root = organization.root
    admins = User.objects.filter(grants__group=root, grants__role=RoleName.ADMIN, is_active=True).distinct()
    if not any(Actor.load(admin, organization=organization).can(Permission.GRANT_ROLES, root) for admin in admins):
        raise Refused("An organisation needs at least one Super Admin: appoint another one first.")
