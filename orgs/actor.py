"""Who acts in an organisation, and what they may do where.

Guarantees: each grant is judged on its own and reaches its node's subtree, never above or beside it; a suspended
membership gives nothing, and takes the grants and memberships of its node's subtree with it; whoever has no
live membership at all has no rights, whatever grants are left, and nobody has any in a frozen organisation.
Computed once per request, in two queries; in three where a role is held at a node that no membership lies in or below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from gateway_project.lib.written import Written
from orgs.errors import NotAllowed
from orgs.models import MAX_LEVEL, ApiKey, Group, Membership, Organization, RoleGrant, User
from orgs.origin import Origin
from orgs.permissions import MEMBER, Permission, RoleName

# Parents are followed, so they are loaded with the row (see Group.path).
ABOVE = "parent__parent__parent__parent"
LINEAGE = f"group__{ABOVE}"

# What a member's own things need in place of the permission that anyone else needs for them.
OWN = {
    Permission.VIEW_USAGE: Permission.VIEW_OWN,
    Permission.VIEW_OWN: Permission.VIEW_OWN,
    Permission.MANAGE_KEYS: Permission.MANAGE_OWN_KEYS,
    Permission.MANAGE_OWN_KEYS: Permission.MANAGE_OWN_KEYS,
}
_MEMBERSHIPS: Written[Membership] = Written(
    lambda user, there: Membership.objects.filter(user=user, organization=there).select_related(LINEAGE), int, int
)
_CHILDREN: Written[Group] = Written(lambda parent: Group.objects.filter(parent=parent).select_related(ABOVE), int)
_GRANTS: Written[RoleGrant] = Written(
    lambda user, there: RoleGrant.objects.filter(user=user, organization=there).select_related("custom_role"), int, int
)


@dataclass(frozen=True)
class Actor:
    """`memberships` and `grants` are the ones that count now. `belongs` is true for a suspended member too."""

    user: User
    organization: Organization
    memberships: tuple[Membership, ...]
    grants: tuple[RoleGrant, ...]
    belongs: bool
    ip: str | None = None
    agent: str = ""

    @classmethod
    def load(cls, user: User, *, organization: Organization, ip: str | None = None, agent: str = "") -> Actor:
        own = _MEMBERSHIPS(user.pk, organization.pk)
        return cls.of(user, own, organization=organization, ip=ip, agent=agent)

    @classmethod
    def of(
        cls, user: User, own: Sequence[Membership], *, organization: Organization, ip: str | None = None, agent: str = ""
    ) -> Actor:
        """`own`: all memberships there, with their paths."""
        suspended = {membership.group_id for membership in own if membership.suspended_at}
        counting = () if organization.frozen_at else own
        live = tuple(membership for membership in counting if not suspended.intersection(membership.group.lineage()))
        granted = _granted(user, own, organization=organization) if live else []
        grants = tuple(grant for grant in granted if not suspended.intersection(grant.group.lineage()))
        return cls(user, organization, live, grants, bool(own), ip, agent)

    @classmethod
    def of_command(cls, command: str, *, organization: Organization) -> Actor:
        """Whoever may run commands on the machine: a Super Admin without an account. Events name no actor, and the command as
        the agent."""
        root = RoleGrant(organization=organization, group=organization.root, role=RoleName.ADMIN)
        grants = () if organization.frozen_at else (root,)
        return cls(User(), organization, (), grants, belongs=False, agent=command)

    @property
    def account(self) -> User | None:
        """None: it is nobody's, a command acts."""
        return self.user if self.user.pk else None

    @property
    def origin(self) -> Origin:
        return Origin(self.ip, self.agent)

    def can(self, permission: Permission, group: Group) -> bool:
        return permission in self.permissions_at(group)

    def can_below(self, permission: Permission, group: Group) -> bool:
        """Whether it holds on the groups directly below, those still to be made included."""
        return self._in_organization(group) and permission in self._along([*group.lineage(), None])

    def permissions_at(self, group: Group) -> frozenset[Permission]:
        return self._along(group.lineage()) if self._in_organization(group) else frozenset()

    def can_anywhere(self, permission: Permission) -> bool:
        granted = (self._best(grant) for grant in self.grants)
        return bool(self.memberships and permission in MEMBER) or any(permission in best for best in granted)

    def can_everywhere(self, permission: Permission) -> bool:
        """Whether it holds at the root, and so on every node: what belongs to the organisation as a whole."""
        return any(grant.group.level == 0 and permission in grant.allows(distance=0) for grant in self.grants)

    def can_with_key(self, permission: Permission, key: ApiKey) -> bool:
        """A member may always see and manage its own keys; anyone else's need the permission at their home node."""
        own = OWN.get(permission)
        if key.member_id == self.user.pk and key.organization_id == self.organization.pk and own:
            return self.can_anywhere(own)
        return self.can(permission, key.group)

    def require(self, permission: Permission, group: Group) -> None:
        """Raises NotAllowed."""
        if not self.can(permission, group):
            raise NotAllowed(permission, group=group)

    def require_everywhere(self, permission: Permission) -> None:
        """At the root. Raises NotAllowed, which names it: who manages only a part of the tree is told so."""
        if not self.can_everywhere(permission):
            raise NotAllowed(permission, group=self.organization.root)

    def belongs_to(self, group: Group) -> bool:
        """Whether one of its live memberships is at this very node."""
        return any(membership.group_id == group.pk for membership in self.memberships)

    def scope(self, *permissions: Permission) -> list[Group]:
        """The top nodes of all subtrees it may act on by any of these; none lies below another. What is one's own is no place."""
        wanted = frozenset(permissions)
        here = [grant.group for grant in self.grants if wanted & grant.allows(distance=0)]
        below = [grant.group_id for grant in self.grants if wanted & grant.allows(distance=1)]
        parents = set(below).difference(group.pk for group in here)
        here += (group for parent in parents for group in _CHILDREN(parent))
        ids = {group.pk for group in here}
        return list({group.pk: group for group in here if not ids.intersection(group.lineage()[:-1])}.values())

    @property
    def role_label(self) -> str:
        """Of its highest grant: "Super Admin", "L1 Admin", "Sub-admin", a custom one; else "Member"; "Owner" at home."""
        if not self.grants:
            return "Member"
        highest = min(self.grants, key=lambda grant: (grant.role != RoleName.ADMIN, grant.group.level))
        personal = self.organization.kind == Organization.Kind.PERSONAL
        return "Owner" if personal and highest.role == RoleName.ADMIN else highest.label

    def _in_organization(self, group: Group) -> bool:
        return group.organization_id == self.organization.pk

    def _along(self, lineage: Sequence[int | None]) -> frozenset[Permission]:
        """Permissions on the last node of a path of ids; None stands for a group that does not exist yet."""
        own = MEMBER if any(membership.group_id == lineage[-1] for membership in self.memberships) else frozenset()
        reaching = (grant for grant in self.grants if grant.group_id in lineage)
        distances = ((grant, len(lineage) - 1 - lineage.index(grant.group_id)) for grant in reaching)
        return own.union(*(grant.allows(distance=distance) for grant, distance in distances))

    @staticmethod
    def _best(grant: RoleGrant) -> frozenset[Permission]:
        """All that a grant can give on some node: below the deepest level there is none."""
        return grant.allows(distance=1 if grant.group.level < MAX_LEVEL else 0)


def _granted(user: User, own: Sequence[Membership], *, organization: Organization) -> list[RoleGrant]:
    """`grants_of`. Nearly all are at nodes on the paths of one's memberships, which are read by now: no other is read again."""
    grants = _GRANTS(user.pk, organization.pk)
    groups = {group.pk: group for membership in own for group in membership.group.path()}
    elsewhere = {grant.group_id for grant in grants} - groups.keys()
    if elsewhere:
        groups |= {group.pk: group for group in Group.objects.filter(pk__in=elsewhere).select_related(ABOVE).order_by()}
    for grant in grants:
        grant.group = groups[grant.group_id]
    return grants


def grants_of(user: User, *, organization: Organization) -> QuerySet[RoleGrant]:
    """All that are written down, those that a suspension silences too; with what `allows` and `lineage` read."""
    return RoleGrant.objects.filter(user=user, organization=organization).select_related("custom_role", LINEAGE)
