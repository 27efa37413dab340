"""What being in the directory gives a person: memberships and roles, and how they are taken away again.

Only what was given for the directory's sake is taken away for its sake; but a deactivated person is suspended in the whole
organisation, and a deleted one leaves it. Nothing here reaches another organisation. All of it runs inside `changing`.
"""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone

from orgs import checks
from orgs.actor import LINEAGE
from orgs.audit import Value
from orgs.models import ApiKey, Group, Membership, RoleGrant
from orgs.powers import reaches
from orgs.scim.acting import Directory
from orgs.scim_models import DirectoryGroup, DirectoryUser
from orgs.services.departures import what_ends
from orgs.services.homes import disable, stranded_keys
from orgs.services.members import keeping_super_admin

# Where, and which: a shipped role by name, or a custom one.
Given = tuple[int | None, str, int | None]


def settle(person: DirectoryUser, *, by: Directory) -> None:
    """Gives what the person's groups in the directory give now, and takes what they gave before. Raises Refused."""
    linked = list(person.directory_groups.filter(group__isnull=False).select_related("custom_role", LINEAGE).order_by("pk"))
    nodes = {person.group_id: person.group} | {group.group.pk: group.group for group in linked if group.group is not None}
    roles = {_given(group): group for group in linked if group.role or group.custom_role_id}
    with keeping_super_admin(by.organization):
        ended = [grant for grant in person.grants.select_related("user", "custom_role", LINEAGE) if _given(grant) not in roles]
        for grant in ended:
            _end_grant(grant, by=by)
        for membership in person.memberships.select_related("user", "organization", LINEAGE):
            if membership.group_id not in nodes:
                end_membership(membership, by=by)
        _give_memberships(person, nodes, by=by)
        _give_roles(person, roles, by=by)
    for grant in ended:
        _stop_stranded(grant, by=by)


def deactivate(person: DirectoryUser, *, by: Directory) -> None:
    """Suspends every membership of this organisation: sessions and keys stop there at the next call. Raises Refused."""
    if person.deactivated_at:
        return
    person.deactivated_at = timezone.now()
    person.save(update_fields=["deactivated_at"])
    with keeping_super_admin(by.organization):
        for membership in _memberships(person).filter(suspended_at=None):
            membership.suspended_at = person.deactivated_at
            membership.save(update_fields=["suspended_at"])
            by.audit("member.suspended", target=membership)


def activate(person: DirectoryUser, *, by: Directory) -> None:
    """Ends the suspensions that its deactivation made; whom an admin suspended stays so."""
    if not person.deactivated_at:
        return
    for membership in _memberships(person).filter(suspended_at=person.deactivated_at):
        membership.suspended_at = None
        membership.save(update_fields=["suspended_at"])
        by.audit("member.resumed", target=membership)
    person.deactivated_at = None
    person.save(update_fields=["deactivated_at"])


def end_everything(person: DirectoryUser, *, by: Directory) -> None:
    """The person leaves the organisation: roles, memberships and keys of it. The account stays. Raises Refused."""
    grants = RoleGrant.objects.filter(user=person.user_id, organization=by.organization)
    with keeping_super_admin(by.organization):
        for grant in grants.select_related("user", "group", "custom_role"):
            _end_grant(grant, by=by)
        for membership in _memberships(person):
            end_membership(membership, by=by)


def end_membership(membership: Membership, *, by: Directory) -> None:
    """With the keys that are at home there, as whenever a member is removed."""
    for key in what_ends(membership).keys:
        ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
        by.audit("key.revoked", target=key, before={"public_id": key.public_id, "group": key.group_id})
    by.audit("member.removed", target=membership, before={"user": membership.user_id, "group": membership.group_id})
    membership.delete()


def _give_memberships(person: DirectoryUser, nodes: dict[int, Group], *, by: Directory) -> None:
    have = set(_memberships(person).values_list("group_id", flat=True))
    for node in (node for pk, node in sorted(nodes.items()) if pk not in have and not node.closed_by):
        if not person.deactivated_at:
            checks.refuse_seat(node, user=person.user)
        given = {"user": person.user, "organization": by.organization, "group": node, "suspended_at": person.deactivated_at}
        membership = Membership.objects.create(**given)
        person.memberships.add(membership)
        by.audit("member.added", target=membership, after={"user": person.user_id, "group": node.pk})


def _give_roles(person: DirectoryUser, roles: dict[Given, DirectoryGroup], *, by: Directory) -> None:
    have = {_given(grant) for grant in RoleGrant.objects.filter(user=person.user_id, organization=by.organization)}
    for given, linked in roles.items():
        node = linked.group
        if given in have or node is None or node.closed_by or not _reaches(linked):
            continue
        role = {"role": linked.role, "custom_role": linked.custom_role}
        grant = RoleGrant.objects.create(user=person.user, organization=by.organization, group=node, **role)
        person.grants.add(grant)
        after: dict[str, Value] = {"user": person.user_id, "group": node.pk, "role": _name(linked)}
        by.audit("role.granted", target=grant, after=after)


def _given(row: RoleGrant | DirectoryGroup) -> Given:
    return row.group_id, row.role, row.custom_role_id


def _name(row: RoleGrant | DirectoryGroup) -> str:
    return row.custom_role.name if row.custom_role else row.role


def _reaches(linked: DirectoryGroup) -> bool:
    """A custom role is granted at its home and below: the node may have been moved from there since it was linked."""
    return linked.custom_role is None or linked.group is None or reaches(linked.custom_role, linked.group)


def _end_grant(grant: RoleGrant, *, by: Directory) -> None:
    by.audit("role.revoked", target=grant, before={"user": grant.user_id, "group": grant.group_id, "role": _name(grant)})
    grant.delete()


def _stop_stranded(grant: RoleGrant, *, by: Directory) -> None:
    now = timezone.now()
    for key in stranded_keys(grant.user, below=grant.group):
        disable(key, at=now, by=None)
        by.audit("key.disabled", target=key)


def _memberships(person: DirectoryUser) -> QuerySet[Membership]:
    rows = Membership.objects.filter(user=person.user_id, organization=person.organization_id)
    return rows.select_related("user", "organization", LINEAGE)
