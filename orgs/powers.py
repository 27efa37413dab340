"""Nobody gives, ends or makes a role that allows more than they may do themselves at that node.

A shipped role is judged by what it gives at the level of the node; a custom one by everything it names, whether that
counts there or not: what it says is what its reader relies on.
"""

from __future__ import annotations

from orgs.actor import Actor
from orgs.errors import NotAllowed
from orgs.models import Group, Role, RoleGrant
from orgs.permissions import Permission, RoleName, allowed

AnyRole = RoleName | Role


def needed(role: AnyRole, group: Group) -> frozenset[Permission]:
    """What one must hold at this node to give the role there, beside `grant_roles`."""
    return role.named if isinstance(role, Role) else allowed(role, granted_level=group.level, distance=1)


def may_give(role: AnyRole, group: Group, *, by: Actor) -> bool:
    own = by.permissions_at(group)
    return Permission.GRANT_ROLES in own and needed(role, group) <= own and reaches(role, group)


def makes_super_admin(role: AnyRole, group: Group) -> bool:
    return role is RoleName.ADMIN and group.level == 0


def require_power(role: AnyRole, group: Group, *, by: Actor) -> None:
    """Raises NotAllowed."""
    require_all(needed(role, group), group, by=by)


def require_all(permissions: frozenset[Permission], group: Group, *, by: Actor) -> None:
    """`grant_roles`, and each of these, at this node. Raises NotAllowed."""
    by.require(Permission.GRANT_ROLES, group)
    for permission in sorted(permissions):
        by.require(permission, group)


def require_everything(by: Actor) -> None:
    """An identity provider signs people in, and a directory gives roles and takes them, a Super Admin's among them: whoever sets
    one up could do by it all that anybody may. Raises NotAllowed."""
    require_power(RoleName.ADMIN, by.organization.root, by=by)


def reaches(role: AnyRole, group: Group) -> bool:
    """Whether the role may be granted there at all: a custom one at its home group and below."""
    return not isinstance(role, Role) or role.group_id in group.lineage()


def role_of(grant: RoleGrant) -> AnyRole:
    return grant.custom_role or RoleName(grant.role)


def outranked(grant: RoleGrant, *, by: Actor) -> NotAllowed | None:
    """Why this actor may not end the grant; None where it may."""
    try:
        require_power(role_of(grant), grant.group, by=by)
    except NotAllowed as missing:
        return missing
    return None
