"""What the console reads: every set is already cut to what its actor may see."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import and_, or_
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Lower

from gateway_project.lib.written import Written
from orgs.actor import ABOVE, LINEAGE, Actor
from orgs.models import MAX_LEVEL, ApiKey, Application, Group, Membership, Organization, Role, RoleGrant, User
from orgs.permissions import Permission, RoleName


def within(groups: Iterable[Group], *, field: str = "") -> Q:
    """Rows whose group is one of `groups` or lies below one; `field` leads to the group, empty for groups themselves."""
    found = list(groups)
    whole = {group.organization_id for group in found if group.parent_id is None}
    below = within_ids([group.pk for group in found if group.parent_id is not None], field=field)
    if not whole:
        return below
    # Below a root lies all of its organisation: that needs no walk up the tree.
    all_of = Q(**{f"{field}__organization__in" if field else "organization__in": whole})
    return all_of | below if len(whole) < len(found) else all_of


def within_ids(ids: list[int], *, field: str = "") -> Q:
    """The same by the ids of groups."""
    steps = (([field] if field else []) + ["parent"] * up for up in range(MAX_LEVEL + 1))
    return reduce(or_, (Q(**{f"{'__'.join(step) or 'pk'}__in": ids}) for step in steps))


def unarchived(*, field: str = "") -> Q:
    """Groups, or rows whose group, is neither archived nor below an archived one: what takes anything new."""
    steps = (([field] if field else []) + ["parent"] * up for up in range(MAX_LEVEL + 1))
    return reduce(and_, (Q(**{"__".join([*step, "archived_at"]): None}) for step in steps))


def organizations_of(user: User) -> QuerySet[Organization]:
    """Where the person has a live membership, companies first."""
    live = Membership.objects.filter(organization=OuterRef("pk"), user=user, suspended_at=None)
    return Organization.objects.filter(Exists(live)).order_by("kind", "name", "pk")


_MEMBERSHIPS: Written[Membership] = Written(
    lambda user: Membership.objects.filter(user=user).select_related("organization", LINEAGE), int
)


def memberships_of(user: User) -> list[Membership]:
    """Everywhere, in no order (`organizations_among` brings one), with what an Actor needs."""
    return _MEMBERSHIPS(user.pk)


def live_memberships(user: User, organization: Organization) -> QuerySet[Membership]:
    """Where in it they are and may act."""
    return Membership.objects.filter(user=user, organization=organization, suspended_at=None)


def organizations_among(memberships: Iterable[Membership]) -> list[Organization]:
    """The same as `organizations_of`, of all memberships of a person that have been read, by name as code points order it.

    Sorted here: a statement with an ORDER BY compares all its columns with it first, and these are read for every page.
    """
    live = dict.fromkeys(membership.organization for membership in memberships if membership.suspended_at is None)
    return sorted(live, key=lambda organization: (organization.kind, organization.name, organization.pk))


def home_organization(user: User, *, last_slug: str | None) -> Organization | None:
    """The organisation used last, else the first company, else the personal account."""
    organizations = list(organizations_of(user))
    return next((found for found in organizations if found.slug == last_slug), organizations[0] if organizations else None)


def groups_visible_to(actor: Actor, *, permission: Permission = Permission.VIEW_USAGE) -> QuerySet[Group]:
    """The subtrees of the permission, and the nodes the actor belongs to, in the order of the tree."""
    own = Q(pk__in=[membership.group_id for membership in actor.memberships])
    visible = within(actor.scope(permission)) | own
    groups: QuerySet[Group] = Group.objects.filter(visible, organization=actor.organization)
    return groups.select_related(ABOVE).order_by("lft")


def tree_visible_to(actor: Actor, *permissions: Permission) -> list[Group]:
    """`groups_visible_to` of any of the permissions, read as a whole."""
    scope, own = actor.scope(*permissions), [membership.group for membership in actor.memberships]
    visible = within(scope) | Q(pk__in=[group.pk for group in own])
    return linked(Group.objects.filter(visible, organization=actor.organization).order_by("lft"), below=[*scope, *own])


def linked(groups: QuerySet[Group], *, below: Iterable[Group]) -> list[Group]:
    """With their paths: a parent is the row of the list itself, or stands above one of those `below` which all of it lies.

    So the statement joins nothing, and no row is read once for each row under it.
    """
    found = list(groups)
    known = {above.pk: above for group in below for above in group.path()} | {group.pk: group for group in found}
    for group in found:
        if group.parent_id in known:
            group.parent = known[group.parent_id]
    return found


def with_groups(rows: Iterable[Any], *, tree: Iterable[Group] = ()) -> None:
    """Gives each row that has a `group_id` its group, with the path: of `tree`, where that is read; the rest by one statement."""
    found = list(rows)
    groups = {group.pk: group for group in tree}
    missing = {row.group_id for row in found} - groups.keys()
    if missing:
        groups |= {group.pk: group for group in Group.objects.filter(pk__in=missing).select_related(ABOVE).order_by()}
    for row in found:
        row.group = groups[row.group_id]


def open_tree(actor: Actor, *permissions: Permission) -> list[Group]:
    """Those of `tree_visible_to` that take anything new."""
    return [group for group in tree_visible_to(actor, *permissions) if group.closed_by is None]


def keys_visible_to(actor: Actor, *, permission: Permission = Permission.VIEW_USAGE) -> QuerySet[ApiKey]:
    """The keys of the subtrees of the permission, and the actor's own; newest first."""
    own = Q(member=actor.user) if actor.can_anywhere(Permission.VIEW_OWN) else Q(pk__in=[])
    keys = ApiKey.objects.filter(within(actor.scope(permission), field="group") | own, organization=actor.organization)
    return keys.select_related("member", "application", LINEAGE).order_by("-created_at", "-pk")


def own_keys(actor: Actor) -> QuerySet[ApiKey]:
    """The keys that are the actor's own, deleted ones left out; newest first."""
    keys = ApiKey.objects.filter(organization=actor.organization, member=actor.user, revoked_at=None)
    return keys.select_related("organization", "member", "application", LINEAGE).order_by("-created_at", "-pk")


def members_visible_to(actor: Actor, *, permission: Permission = Permission.VIEW_USAGE) -> QuerySet[Membership]:
    """The memberships of the subtrees of the permission, and the actor's own."""
    own = Q(pk__in=[membership.pk for membership in actor.memberships])
    members = Membership.objects.filter(within(actor.scope(permission), field="group") | own, organization=actor.organization)
    return members.select_related("user", LINEAGE).order_by("user__email", "pk")


def viewable_members(actor: Actor, *, search: str = "") -> QuerySet[Membership]:
    """Memberships of people who wholly stand below the actor, to be looked as; orgs/viewing.py judges each when it begins."""
    here = within(actor.scope(Permission.MANAGE_MEMBERS), field="group")
    above = within(actor.scope(Permission.GRANT_ROLES), field="group") & ~Q(role=RoleName.ADMIN, group__level=0)
    theirs = {"organization": actor.organization, "user": OuterRef("user")}
    beside = Membership.objects.filter(~here, suspended_at=None, **theirs)
    members = Membership.objects.filter(here, organization=actor.organization, suspended_at=None).exclude(user=actor.user)
    if search:
        members = members.filter(Q(user__name__icontains=search) | Q(user__email__icontains=search))
    below = members.filter(~Exists(beside), ~Exists(RoleGrant.objects.filter(~above, **theirs)))
    return below.select_related("user", "group").order_by("user__name", "user__email", "pk")


def key_homes(actor: Actor) -> QuerySet[Group]:
    """The groups the actor may make keys in: its own nodes, and where it manages keys."""
    return groups_visible_to(actor, permission=Permission.MANAGE_KEYS).filter(unarchived())


def members_to_key(group: Group, *, by: Actor) -> QuerySet[User]:
    """Who else may have a key at home in this very group: its active members."""
    live = Membership.objects.filter(group=group, suspended_at=None)
    return User.objects.filter(pk__in=live.values("user"), is_active=True).exclude(pk=by.user.pk).order_by("name", "email")


def bindable_applications(group: Group) -> QuerySet[Application]:
    """Applications that a key at home in this group may name: their group lies on the key's path."""
    return Application.objects.filter(group__in=group.lineage(), archived_at=None).select_related("group").order_by("name")


def roles_at(group: Group) -> QuerySet[RoleGrant]:
    """The grants made at this very node."""
    return RoleGrant.objects.filter(group=group).select_related("user", "group", "custom_role").order_by("role", "user__email")


def roles_visible_to(actor: Actor) -> QuerySet[Role]:
    """Custom roles at home in the nodes whose members the actor manages, and above these: they can be granted there too."""
    scope = actor.scope(Permission.MANAGE_MEMBERS) + actor.scope(Permission.GRANT_ROLES)
    above = Q(group__in={node for group in scope for node in group.lineage()})
    roles = Role.objects.filter(above | within(scope, field="group"), organization=actor.organization)
    return roles.select_related(LINEAGE).order_by(Lower("name"))


def _granters(organization: int, *above: int) -> QuerySet[RoleGrant]:
    live = Membership.objects.filter(organization=organization, user=OuterRef("user"), suspended_at=None)
    suspended = Membership.objects.filter(user=OuterRef("user"), group__in=above, suspended_at__isnull=False)
    gives = Q(role=RoleName.ADMIN) | Q(custom_role__permissions__contains=[Permission.GRANT_ROLES])
    admins = RoleGrant.objects.filter(gives, Exists(live), ~Exists(suspended), group__in=above, user__is_active=True)
    return admins.select_related("user", "group", "custom_role").order_by("-group__level", "user__email")


_GRANTERS: Written[RoleGrant] = Written(_granters, int, *[int] * MAX_LEVEL)


def granters(group: Group) -> list[RoleGrant]:
    """Admins who may grant roles at this node, nearest first: those above it, and Super Admins. Suspended and frozen
    ones are left out."""
    above = group.lineage()[:-1] or [group.pk]
    # As many as the statement takes: some of them twice.
    return _GRANTERS(group.organization_id, *(above * MAX_LEVEL)[:MAX_LEVEL])


def super_admins(organization: Organization) -> list[User]:
    """Who can act as such: nobody who is frozen or suspended."""
    root = organization.root
    admins = User.objects.filter(grants__group=root, grants__role=RoleName.ADMIN, is_active=True).distinct()
    return [admin for admin in admins if Actor.load(admin, organization=organization).can(Permission.GRANT_ROLES, root)]


def grants_visible_to(actor: Actor) -> QuerySet[RoleGrant]:
    """The roles of the subtrees whose members the actor sees, and its own."""
    seen = within(actor.scope(Permission.VIEW_USAGE), field="group") | Q(pk__in=[grant.pk for grant in actor.grants])
    return RoleGrant.objects.filter(seen, organization=actor.organization).select_related("user", "group", "custom_role")


def applications_visible_to(actor: Actor) -> QuerySet[Application]:
    """Those of the subtrees of whoever sees usage, and those that keys of one's own nodes may name."""
    path = {node for membership in actor.memberships for node in membership.group.lineage()}
    seen = within(actor.scope(Permission.VIEW_USAGE), field="group") | Q(group__in=path)
    return Application.objects.filter(seen, organization=actor.organization).select_related(LINEAGE)
