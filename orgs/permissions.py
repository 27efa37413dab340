"""What a person may do. A role is a set of permissions, granted at a node of the tree and valid in its subtree."""

from enum import StrEnum


class Permission(StrEnum):
    VIEW_OWN = "view_own"
    MANAGE_OWN_KEYS = "manage_own_keys"
    VIEW_USAGE = "view_usage"
    MANAGE_GROUPS = "manage_groups"
    MANAGE_MEMBERS = "manage_members"
    MANAGE_KEYS = "manage_keys"
    MANAGE_APPLICATIONS = "manage_applications"
    MANAGE_GUARDRAILS = "manage_guardrails"
    MANAGE_ROUTING = "manage_routing"
    MANAGE_SETTINGS = "manage_settings"
    GRANT_ROLES = "grant_roles"
    VIEW_BILLING = "view_billing"
    TOP_UP = "top_up"
    MANAGE_PROVIDER_KEYS = "manage_provider_keys"
    VIEW_AUDIT = "view_audit"

    @property
    def label(self) -> str:
        return self.value.replace("_", " ").capitalize()


class RoleName(StrEnum):
    """The shipped roles that can be granted at a node. Everyone with a membership is a Member besides."""

    ADMIN = "admin"
    FINANCE = "finance"
    AUDITOR = "auditor"


MEMBER = frozenset({Permission.VIEW_OWN, Permission.MANAGE_OWN_KEYS})

# What a role allows at its own node and below.
AT_AND_BELOW: dict[RoleName, frozenset[Permission]] = {
    RoleName.ADMIN: frozenset(
        {
            Permission.VIEW_USAGE,
            Permission.MANAGE_MEMBERS,
            Permission.MANAGE_KEYS,
            Permission.MANAGE_APPLICATIONS,
            Permission.MANAGE_ROUTING,
            Permission.VIEW_BILLING,
            Permission.VIEW_AUDIT,
        }
    ),
    RoleName.FINANCE: frozenset({Permission.VIEW_USAGE, Permission.VIEW_BILLING}),
    RoleName.AUDITOR: frozenset({Permission.VIEW_USAGE, Permission.VIEW_BILLING, Permission.VIEW_AUDIT}),
}

# What an admin may do only *below* its own node: its own settings and limits belong to the admin above.
# A grant at level 0 (Super Admin) has nobody above it and may do these at its own node too.
BELOW_ONLY: dict[RoleName, frozenset[Permission]] = {
    RoleName.ADMIN: frozenset(
        {
            Permission.MANAGE_GROUPS,
            Permission.MANAGE_GUARDRAILS,
            Permission.MANAGE_SETTINGS,
            Permission.GRANT_ROLES,
        }
    ),
    RoleName.FINANCE: frozenset(),
    RoleName.AUDITOR: frozenset(),
}

# What is about the company's own money and contracts counts only for admin grants at the upper levels of the tree.
UPPER_LEVELS = frozenset({0, 1})
UPPER_ONLY = frozenset({Permission.TOP_UP, Permission.MANAGE_PROVIDER_KEYS})


# Like an admin's, so counts a custom role's: these only below the node of a grant, except at level 0.
COUNTS_BELOW = BELOW_ONLY[RoleName.ADMIN]


def permissions_of(role: RoleName) -> frozenset[Permission]:
    """All that a shipped role names; where each counts is `counted`'s to say."""
    return AT_AND_BELOW[role] | BELOW_ONLY[role] | (UPPER_ONLY if role is RoleName.ADMIN else frozenset())


def counted(permissions: frozenset[Permission], *, granted_level: int, distance: int) -> frozenset[Permission]:
    """Which of a role's permissions count, granted at level `granted_level`, `distance` levels below (0 = the node itself)."""
    if distance == 0 and granted_level > 0:
        permissions -= COUNTS_BELOW
    return permissions if granted_level in UPPER_LEVELS else permissions - UPPER_ONLY


def allowed(role: RoleName, *, granted_level: int, distance: int) -> frozenset[Permission]:
    """The same for a shipped role."""
    return counted(permissions_of(role), granted_level=granted_level, distance=distance)


def roles_with(permission: Permission) -> list[RoleName]:
    """The roles that can be granted to give someone this permission."""
    return [role for role in RoleName if permission in allowed(role, granted_level=0, distance=0)]
