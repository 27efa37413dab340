"""The tree as pages show it: one statement for the groups, one for all that is counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.db import connection
from django.db.models import QuerySet

from orgs.actor import ABOVE, LINEAGE, Actor
from orgs.models import MAX_LEVEL, Application, Group, Membership, Organization, User
from orgs.permissions import Permission
from orgs.selectors import linked, within

MOST_PEOPLE = 300
# Any of these lets see what stands in a subtree; what it costs only the first.
SEES_GROUPS = (Permission.VIEW_USAGE, Permission.MANAGE_GROUPS)
SEES_APPLICATIONS = (Permission.VIEW_USAGE, Permission.MANAGE_APPLICATIONS)
SEES_OWNERS = (Permission.VIEW_USAGE, Permission.MANAGE_GROUPS, Permission.MANAGE_APPLICATIONS)


class Counts(NamedTuple):
    """At a node and below: people, keys that are not deleted, applications that are not archived; and of the people those
    who are suspended wherever they are there."""

    members: int = 0
    keys: int = 0
    applications: int = 0
    suspended: int = 0


class Node(NamedTuple):
    """A row of the tree. `depth` counts from the highest node that is shown."""

    group: Group
    depth: int
    counts: Counts
    may_manage: bool
    may_add: bool
    has_below: bool
    is_archived: bool


# Parents are followed, as everywhere: at most four joins, and every thing counts once on each node above it.
_COUNTS_SQL = """
SELECT node, count(DISTINCT thing) FILTER (WHERE what = 'member'),
       count(*) FILTER (WHERE what = 'key'), count(*) FILTER (WHERE what = 'application'),
       count(DISTINCT thing) FILTER (WHERE what = 'member') - count(DISTINCT thing) FILTER (WHERE what = 'member' AND live)
FROM (
    SELECT 'member' AS what, group_id, user_id AS thing, suspended_at IS NULL AS live
    FROM orgs_membership WHERE organization_id = %(organization)s
    UNION ALL
    SELECT 'key', group_id, id, TRUE FROM orgs_apikey WHERE organization_id = %(organization)s AND revoked_at IS NULL
    UNION ALL
    SELECT 'application', group_id, id, TRUE FROM orgs_application
    WHERE organization_id = %(organization)s AND archived_at IS NULL
) things
JOIN orgs_group g ON g.id = things.group_id
LEFT JOIN orgs_group p1 ON p1.id = g.parent_id
LEFT JOIN orgs_group p2 ON p2.id = p1.parent_id
LEFT JOIN orgs_group p3 ON p3.id = p2.parent_id
CROSS JOIN LATERAL unnest(ARRAY[g.id, g.parent_id, p1.parent_id, p2.parent_id, p3.parent_id]) AS node
WHERE node IS NOT NULL
GROUP BY node
"""


def counts_of(organization: Organization) -> dict[int, Counts]:
    """By group; a group without an entry has nothing."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS_SQL, {"organization": organization.pk})
        return {node: Counts(*counted) for node, *counted in cursor.fetchall()}


def tree_of(actor: Actor, *, archived: bool = False) -> list[Node]:
    """The subtrees that the actor sees, from the top down; `archived`: with what is archived."""
    groups = whole_tree(actor)
    shown = [group for group in groups if archived or group.closed_by is None]
    counts = counts_of(actor.organization)
    parents = {group.parent_id for group in shown}
    tops = {group.pk: group.level for group in actor.scope(*SEES_GROUPS)}
    return [
        Node(
            group=group,
            depth=group.level - next(tops[node] for node in group.lineage() if node in tops),
            counts=counts.get(group.pk, Counts()),
            may_manage=actor.can(Permission.MANAGE_GROUPS, group),
            may_add=may_take(actor, group) and group.level < MAX_LEVEL,
            has_below=group.pk in parents,
            is_archived=group.closed_by is not None,
        )
        for group in shown
    ]


def groups_seen(actor: Actor, permissions: Iterable[Permission] = SEES_GROUPS) -> QuerySet[Group]:
    """In the order of the tree."""
    found: QuerySet[Group] = actor.organization.groups.filter(within(actor.scope(*permissions)))
    found = found.select_related(ABOVE, "owner").order_by("lft")
    return found


def whole_tree(actor: Actor) -> list[Group]:
    """`groups_seen`, read as a whole."""
    groups = groups_seen(actor).select_related(None).select_related("owner")
    return linked(groups, below=actor.scope(*SEES_GROUPS))


def may_take(actor: Actor, group: Group) -> bool:
    """Whether the actor may put groups below it. Load its path."""
    return group.closed_by is None and actor.can_below(Permission.MANAGE_GROUPS, group)


def open_to(actor: Actor, groups: Iterable[Group] | None = None) -> list[Group]:
    """Where the actor may put groups, level or not; of `groups`, where those it sees are loaded already."""
    return [group for group in (whole_tree(actor) if groups is None else groups) if may_take(actor, group)]


def applications_seen(actor: Actor, permissions: Iterable[Permission] = SEES_APPLICATIONS) -> QuerySet[Application]:
    below = within(actor.scope(*permissions), field="group")
    found = Application.objects.filter(below, organization=actor.organization)
    return found.select_related("owner", LINEAGE).order_by("name", "pk")


def people_seen(actor: Actor) -> QuerySet[User]:
    """Who may be named as an owner: active members of the subtrees that the actor sees."""
    below = within(actor.scope(*SEES_OWNERS), field="group")
    members = Membership.objects.filter(below, organization=actor.organization, suspended_at=None)
    return User.objects.filter(pk__in=members.values("user")).order_by("name", "email")


def kinds_used(organization: Organization, suggested: Iterable[str]) -> list[str]:
    """Kind labels to suggest: the usual ones and those of this tree."""
    used = Group.objects.filter(organization=organization).exclude(kind="").values_list("kind", flat=True).distinct()
    return sorted({*suggested, *used[:50]}, key=str.lower)
