"""Moving a group with all that is below it.

What was spent before stays under the path of its time: ledger rows carry that path, and counters are sums of such rows.
From the next call on (the epoch) the limits of the new path apply. Calls running meanwhile settle where they were admitted.
"""

from __future__ import annotations

from django.db.models import Exists, Max, QuerySet

from orgs import checks
from orgs.actor import Actor
from orgs.audit import audit
from orgs.consequences import grants_about
from orgs.errors import NotAllowed, Refused
from orgs.models import MAX_LEVEL, ApiKey, Group, RoleGrant
from orgs.permissions import UPPER_LEVELS, UPPER_ONLY, Permission
from orgs.selectors import within
from orgs.services.changes import changing, fresh_group, refuse_archived, refuse_namesake


def move_group(group: Group, *, to: Group, by: Actor) -> Group:
    """`to` becomes its parent. Raises Refused, NotAllowed."""
    with changing(by.organization):
        group, to = fresh_group(group), fresh_group(to)
        refuse_move(group, to=to, by=by)
        before = group.parent
        if before is not None and before.pk != to.pk:
            group.parent = to
            group.save()  # type: ignore[no-untyped-call]
            audit(
                "group.moved",
                by=by,
                target=group,
                before={"parent": before.pk, "path": written(before)},
                after={"parent": to.pk, "path": written(to)},
            )
    return group


def refuse_move(group: Group, *, to: Group, by: Actor, grants: list[RoleGrant] | None = None) -> None:
    """Raises Refused or NotAllowed where `move_group` would: to say so before anything is asked.

    `grants`: those that `grants_about` finds, where they are loaded already.
    """
    by.require(Permission.MANAGE_GROUPS, group)
    if not by.can_below(Permission.MANAGE_GROUPS, to):
        raise NotAllowed(Permission.MANAGE_GROUPS, group=to)
    if group.parent is None:
        raise Refused("The organisation itself cannot be moved.", field="to")
    if group.contains(to):
        raise Refused(f"{group} cannot be moved into itself or below itself.", field="to")
    refuse_archived(group, field="to")
    refuse_archived(to, field="to")
    refuse_namesake(group.name, below=to, but=group, field="to")
    _require_gained(group, grants_about(group, to) if grants is None else grants, to=to, by=by)
    checks.refuse_move(group, to=to, by=by)
    torn = _torn_attribution(group, to=to)
    deepest, is_torn = _below(group).annotate(is_torn=Exists(torn)).order_by("-level").values_list("level", "is_torn")[0]
    _refuse_too_deep(group, to=to, below=deepest - group.level)
    if is_torn:
        _refuse_torn_attribution(group, torn)


def height(group: Group) -> int:
    """Levels below it that are in use: 0 without any group below."""
    return int(_below(group).aggregate(deepest=Max("level"))["deepest"]) - group.level


def _below(group: Group) -> QuerySet[Group]:
    """The group and all below it."""
    found: QuerySet[Group] = Group.objects.filter(within([group]), organization=group.organization_id)
    return found


def written(group: Group) -> str:
    """The path as people read it."""
    return " / ".join(node.name for node in group.path())


def _require_gained(group: Group, grants: list[RoleGrant], *, to: Group, by: Actor) -> None:
    """Roles of the new place and above it come to reach the group, and those of the group itself count for more on an upper
    level: both as if they were granted. Raises NotAllowed."""
    level = to.level + 1
    joined = set(to.lineage()).difference(group.lineage())
    coming = [grant for grant in grants if grant.group_id in joined]
    gained = {permission for grant in coming for permission in grant.allows(distance=level - grant.group.level)}
    if level in UPPER_LEVELS and group.level not in UPPER_LEVELS:
        gained |= {permission for grant in grants if grant.group_id == group.pk for permission in grant.named & UPPER_ONLY}
    for permission in sorted(gained):
        by.require(permission, group)


def _refuse_too_deep(group: Group, *, to: Group, below: int) -> None:
    if to.level + 1 + below > MAX_LEVEL:
        carried = f" with the {below} level{'' if below == 1 else 's'} below it" if below else ""
        raise Refused(
            f"The tree has {MAX_LEVEL} levels below the organisation. {to} is on level {to.level}, so {group}{carried}"
            f" would reach level {to.level + 1 + below}.",
            field="to",
        )


def _torn_attribution(group: Group, *, to: Group) -> QuerySet[ApiKey]:
    """A key may name an application only if its group lies on the key's own path: those for which that would end."""
    below = ApiKey.objects.filter(within([group], field="group"), revoked_at=None, application__isnull=False)
    return below.exclude(within([group], field="application__group")).exclude(application__group__in=to.lineage())


def _refuse_torn_attribution(group: Group, torn: QuerySet[ApiKey]) -> None:
    first = torn.select_related("application__group").order_by("pk").first()
    if first is not None and first.application is not None:
        count = torn.count()
        keys = f"{count} API key{'' if count == 1 else 's'} below {group} name{'s' if count == 1 else ''} an application"
        raise Refused(
            f"{keys} that would no longer lie on {'its' if count == 1 else 'their'} path, such as “{first.application}” of"
            f" {first.application.group}. Move the application to {group}, or to a group above both places, first.",
            field="to",
        )
