from __future__ import annotations

from orgs.actor import Actor
from orgs.audit import audit
from orgs.errors import NotAllowed, Refused
from orgs.models import MAX_LEVEL, Group
from orgs.permissions import Permission
from orgs.services.changes import changing, clean_name, fresh_group, refuse_archived


def create_group(parent: Group, *, name: str, by: Actor, kind: str = "") -> Group:
    """One level below its parent. Raises Refused for a fifth level."""
    with changing(by.organization):
        parent = fresh_group(parent)
        if not by.can_below(Permission.MANAGE_GROUPS, parent):
            raise NotAllowed(Permission.MANAGE_GROUPS, group=parent)
        if parent.level >= MAX_LEVEL:
            raise Refused(
                f"The tree has {MAX_LEVEL} levels below the organisation; {parent} is already on the last one.", field="parent"
            )
        refuse_archived(parent)
        group: Group = Group.objects.create(
            organization=by.organization, parent=parent, name=clean_name(name), kind=kind.strip()[:40]
        )
        audit("group.created", by=by, target=group, after={"name": group.name, "parent": parent.pk})
    return group


def rename_group(group: Group, *, name: str, by: Actor) -> Group:
    """The root bears the organisation's name: rename that with change_settings."""
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_GROUPS, group)
        if group.parent is None:
            raise Refused("The root group bears the organisation's name: change it in the organisation's settings.", field="name")
        before, group.name = group.name, clean_name(name)
        group.save()  # type: ignore[no-untyped-call]
        audit("group.renamed", by=by, target=group, before={"name": before}, after={"name": group.name})
    return group
