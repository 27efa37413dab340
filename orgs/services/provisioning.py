"""What an organisation's admins decide about its directory: its token, and what the directory's groups give (orgs/scim/).

Everything here needs the settings' permission at the root. The token and the links need all that anybody may do there: a
directory brings in anybody, ends anybody's membership, and its groups may give any role.
"""

from __future__ import annotations

from django.utils import timezone

from gateway_project.lib.crypto import digest
from orgs.actor import LINEAGE, Actor
from orgs.audit import audit
from orgs.errors import Refused
from orgs.models import Group, Organization, Role, User
from orgs.permissions import Permission
from orgs.powers import AnyRole, require_everything
from orgs.scim.acting import Directory, new_token
from orgs.scim.giving import settle
from orgs.scim_models import DirectoryGroup, DirectoryUser, Provisioning
from orgs.services.changes import changing, fresh_group, refuse_archived
from orgs.services.members import fresh_role, refuse_unreached


def issue_token(*, group: Group, by: Actor) -> str:
    """The text, which is given here once and kept nowhere. The one before stops at once. Raises Refused, NotAllowed.

    `group`: the node of which everybody who comes from now on is a member.
    """
    with changing(by.organization):
        require_everything(by)
        group = _judged(group, by=by)
        text = new_token()
        now = timezone.now()
        given = {"digest": digest(text), "last_four": text[-4:], "issued_at": now, "issued_by": by.user, "last_used_at": None}
        before = Provisioning.objects.filter(organization=by.organization).exclude(digest=None).exists()
        row, _ = Provisioning.objects.update_or_create(organization=by.organization, defaults={"group": group, **given})
        action = "provisioning.token_rotated" if before else "provisioning.token_issued"
        audit(action, by=by, target=row, after={"last_four": row.last_four, "group": group.pk})
    return text


def revoke_token(row: Provisioning, *, by: Actor) -> None:
    """The directory is answered no more. Whom it brought in stays."""
    with changing(by.organization):
        by.require_everywhere(Permission.MANAGE_SETTINGS)
        row.refresh_from_db()
        if row.digest is not None:
            audit("provisioning.token_revoked", by=by, target=row, before={"last_four": row.last_four})
            row.digest, row.last_four = None, ""
            row.save(update_fields=["digest", "last_four"])


def choose_group(row: Provisioning, *, group: Group, by: Actor) -> None:
    """Of which everybody who comes from now on is a member; who is there stays."""
    with changing(by.organization):
        group = _judged(group, by=by)
        row.refresh_from_db()
        if row.group_id != group.pk:
            audit("provisioning.group_chosen", by=by, target=row, before={"group": row.group_id}, after={"group": group.pk})
            row.group = group
            row.save(update_fields=["group"])


def link_group(row: DirectoryGroup, *, group: Group | None, role: AnyRole | None, by: Actor) -> None:
    """Its people become members of the node, with the role; what the link gave before is taken away. None: no link."""
    with changing(by.organization):
        require_everything(by)
        if group is not None:
            group = _judged(group, by=by)
        if isinstance(role, Role):
            role = fresh_role(role, by=by)
        if role is not None and group is None:
            raise Refused("A role needs a group of the tree.", field="group")
        if role is not None and group is not None:
            refuse_unreached(role, group)
        row.refresh_from_db()
        before = {"group": row.group_id, "role": _name(row.custom_role or row.role)}
        given = (group, "" if isinstance(role, Role) else role or "", role if isinstance(role, Role) else None)
        if (row.group, row.role, row.custom_role) == given:
            return
        row.group, row.role, row.custom_role = given
        row.save(update_fields=["group", "role", "custom_role"])
        after = {"group": row.group_id, "role": _name(role)}
        audit("provisioning.group_linked", by=by, target=row, before=before, after=after)
        directory = Directory(Provisioning.objects.select_related("organization").get(organization=by.organization), by.origin)
        for person in row.people.select_related("user", LINEAGE):
            settle(person, by=directory)


def refuse_deactivated(group: Group, *, user: User | None) -> None:
    """Whom the directory has deactivated nobody adds by hand. A check of seats (orgs/checks.py). Raises Refused."""
    if user is None:
        return
    out = DirectoryUser.objects.filter(organization=group.organization_id, user=user, deactivated_at__isnull=False)
    if out.exists():
        raise Refused(f"{user} is deactivated in the organisation's directory: activate them there.", field="user")


def _name(role: Role | str | None) -> str:
    return role.name if isinstance(role, Role) else str(role or "")


def _judged(group: Group, *, by: Actor) -> Group:
    """Raises Refused, NotAllowed."""
    by.require_everywhere(Permission.MANAGE_SETTINGS)
    if by.organization.kind == Organization.Kind.PERSONAL:
        raise Refused("A personal account has no directory.")
    group = fresh_group(group)
    if group.organization_id != by.organization.pk:
        raise Refused("Choose a group of this organisation.", field="group")
    refuse_archived(group)
    return group
