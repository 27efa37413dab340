"""Roles of an organisation's own."""

from __future__ import annotations

from collections.abc import Iterable

from orgs.actor import LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Group, Role
from orgs.permissions import MEMBER, Permission, RoleName
from orgs.powers import require_all
from orgs.services.changes import alike, changing, clean_name, fresh_group, refuse_archived
from orgs.services.homes import stop_stranded
from orgs.services.members import fresh_role

NAME_LENGTH = 60
DESCRIPTION_LENGTH = 200
MOST_ROLES = 100
# What a membership gives is nobody's to grant.
GRANTABLE = frozenset(Permission) - MEMBER
# Names that people know for something else.
TAKEN = {"super admin", "l1 admin", "sub-admin", "member", "owner", *(role.value for role in RoleName)}


def create_role(group: Group, *, name: str, permissions: Iterable[Permission], by: Actor, description: str = "") -> Role:
    """It can be granted at `group` and below. Raises NotAllowed where it names what its maker may not do there."""
    with changing(by.organization):
        group = fresh_group(group)
        named = _clean_permissions(permissions)
        require_all(named, group, by=by)
        refuse_archived(group)
        if Role.objects.filter(organization=by.organization).count() >= MOST_ROLES:
            raise Refused(f"An organisation has at most {MOST_ROLES} roles of its own.")
        role = Role.objects.create(
            organization=by.organization,
            group=group,
            name=_free_name(name, by=by),
            description=_clean_description(description),
            permissions=sorted(named),
        )
        audit("role.created", by=by, target=role, after=_facts(role))
    return role


def change_role(role: Role, *, name: str, permissions: Iterable[Permission], by: Actor, description: str = "") -> Role:
    """Counts for everyone who holds it, on their next request; keys that only it let be where they are stop.

    One must hold what it named and what it is to name.
    """
    with changing(by.organization):
        role = fresh_role(role, by=by)
        named = _clean_permissions(permissions)
        require_all(role.named | named, role.group, by=by)
        before = _facts(role)
        role.name = _free_name(name, by=by, role=role)
        role.description, role.permissions = _clean_description(description), sorted(named)
        if (after := _facts(role)) != before:
            role.save(update_fields=["name", "description", "permissions"])
            audit("role.changed", by=by, target=role, before=before, after=after)
            for grant in role.grants.select_related("user", LINEAGE):
                stop_stranded(grant.user, below=grant.group, by=by)
    return role


def copy_role(role: Role, *, by: Actor) -> Role:
    """Beside the one it is a copy of, with a name of its own, held by nobody."""
    names = {name.lower() for name in Role.objects.filter(organization=by.organization).values_list("name", flat=True)}
    base = role.name[: NAME_LENGTH - 10]
    candidates = (f"{base} copy", *(f"{base} copy {number}" for number in range(2, MOST_ROLES + 2)))
    name = next(candidate for candidate in candidates if candidate.lower() not in names)
    return create_role(role.group, name=name, permissions=role.named, description=role.description, by=by)


def delete_role(role: Role, *, by: Actor) -> None:
    """Refused while somebody holds it, or an open invitation or a group of the directory gives it."""
    with changing(by.organization):
        role = fresh_role(role, by=by)
        require_all(role.named, role.group, by=by)
        held = role.grants.values("user").distinct().count()
        if held:
            raise Refused(f"{held} {'person holds' if held == 1 else 'people hold'} this role: end that first.")
        if any(invitation.is_open for invitation in role.invitations.filter(revoked_at=None)):
            raise Refused("An open invitation gives this role: take it back first.")
        if linked := role.directory_groups.first():
            raise Refused(f"Who is in “{linked}” of the directory gets this role: change that link first.")
        audit("role.deleted", by=by, target=role, before=_facts(role))
        role.delete()


def _clean_permissions(permissions: Iterable[Permission]) -> frozenset[Permission]:
    named = frozenset(permissions)
    if not named or not named <= GRANTABLE:
        raise Refused("Choose at least one permission.", field="permissions")
    return named


def _clean_description(description: str) -> str:
    description = " ".join(description.split())
    if len(description) > DESCRIPTION_LENGTH or not description.isprintable():
        raise Refused(f"A description has at most {DESCRIPTION_LENGTH} visible characters.", field="description")
    return description


def _free_name(name: str, *, by: Actor, role: Role | None = None) -> str:
    name = clean_name(name)
    if len(name) > NAME_LENGTH:
        raise Refused(f"A role's name has at most {NAME_LENGTH} characters.", field="name")
    others = alike(Role.objects.filter(organization=by.organization), "name", name)
    if name.lower() in TAKEN or (others.exclude(pk=role.pk) if role else others).exists():
        raise Refused(f"There is a role “{name}” already.", field="name")
    return name


def _facts(role: Role) -> dict[str, Value]:
    return {
        "name": role.name,
        "group": role.group_id,
        "description": role.description,
        "permissions": list(role.permissions),
    }
