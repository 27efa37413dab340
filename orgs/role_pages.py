"""What the pages of roles show, put together for their templates."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Count

from orgs.actor import Actor
from orgs.models import Role, RoleGrant
from orgs.permissions import Permission, RoleName, permissions_of
from orgs.role_words import areas
from orgs.selectors import roles_visible_to, within

SHIPPED = {
    RoleName.ADMIN: "Runs its part of the tree: Super Admin at the root, L1 Admin on level 1, Sub-admin below.",
    RoleName.FINANCE: "Sees usage, credit and costs.",
    RoleName.AUDITOR: "Sees usage, credit and costs, and the audit trail.",
}


class RoleRow(NamedTuple):
    """`held`: how many grants the viewer may see."""

    name: str
    description: str
    where: str
    held: int
    permissions: frozenset[Permission]
    role: Role | None = None
    may_change: bool = False


def role_rows(actor: Actor) -> list[RoleRow]:
    """Shipped ones first."""
    seen = RoleGrant.objects.filter(
        within(actor.scope(Permission.MANAGE_MEMBERS), field="group"), organization=actor.organization
    )
    counts: dict[tuple[str, int | None], int] = {
        (row["role"], row["custom_role"]): row["held"] for row in seen.values("role", "custom_role").annotate(held=Count("pk"))
    }
    shipped = [
        RoleRow(role.value.title(), words, "everywhere", counts.get((role.value, None), 0), permissions_of(role))
        for role, words in SHIPPED.items()
    ]
    own = [
        RoleRow(
            role.name,
            role.description,
            role.group.words(),
            counts.get(("", role.pk), 0),
            role.named,
            role,
            may_change(role, actor),
        )
        for role in roles_visible_to(actor)
    ]
    return shipped + own


def may_change(role: Role, actor: Actor) -> bool:
    return {Permission.GRANT_ROLES, *role.named} <= actor.permissions_at(role.group)


def matrix(rows: list[RoleRow]) -> list[tuple[str, list[tuple[str, str, list[bool]]]]]:
    """By area: (words, note, whether each row's role has it)."""
    return [
        (name, [(line.words, line.note, [line.permission in row.permissions for row in rows]) for line in lines])
        for name, lines in areas().items()
    ]
