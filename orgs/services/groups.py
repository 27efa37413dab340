"""Groups: made, changed, archived and brought back. Moving one is services/moves.py."""

from __future__ import annotations

from typing import TypedDict, Unpack

from django.utils import timezone

from orgs.actor import Actor
from orgs.audit import audit
from orgs.errors import NotAllowed, Refused
from orgs.models import MAX_LEVEL, Group, User
from orgs.permissions import Permission
from orgs.services.about import audited, clean_about, differences
from orgs.services.changes import changing, fresh_group, refuse_archived, refuse_namesake


class About(TypedDict, total=False):
    """What is said of a group; whoever owns it answers for it and gains no right by that."""

    kind: str
    cost_center: str
    owner: User | None


class Named(About, total=False):
    name: str


def create_group(parent: Group, *, name: str, by: Actor, **about: Unpack[About]) -> Group:
    """One level below its parent. Raises Refused for a fifth level."""
    with changing(by.organization):
        parent = fresh_group(parent)
        require_room(parent, by=by)
        cleaned = clean_about({**about, "name": name}, organization=by.organization)
        refuse_namesake(cleaned["name"], below=parent)
        group: Group = Group.objects.create(organization=by.organization, parent=parent, **cleaned)
        audit("group.created", by=by, target=group, after={"parent": parent.pk, **audited(cleaned)})
    return group


def require_room(parent: Group, *, by: Actor) -> None:
    """Whether a group can be made directly below: to say so before anything is typed. Raises Refused, NotAllowed."""
    if not by.can_below(Permission.MANAGE_GROUPS, parent):
        raise NotAllowed(Permission.MANAGE_GROUPS, group=parent)
    if parent.level >= MAX_LEVEL:
        raise Refused(
            f"The tree has {MAX_LEVEL} levels below the organisation; {parent} is already on the last one.", field="parent"
        )
    refuse_archived(parent, field="parent")


def change_group(group: Group, *, by: Actor, **wanted: Unpack[Named]) -> Group:
    """What is not given stays. The root bears the organisation's name: rename that with change_settings."""
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_GROUPS, group)
        before, after = differences(group, clean_about(wanted, organization=by.organization, standing=group.owner_id))
        if group.parent is None and "name" in after:
            raise Refused("The root group bears the organisation's name: change it in the organisation's settings.", field="name")
        if group.parent is not None and group.archived_at is None and "name" in after:
            refuse_namesake(after["name"], below=group.parent, but=group)
        if after:
            for field, value in after.items():
                setattr(group, field, value)
            group.save()  # type: ignore[no-untyped-call]
            audit("group.changed", by=by, target=group, before=audited(before), after=audited(after))
    return group


def archive_group(group: Group, *, by: Actor) -> Group:
    """Its keys and those below stop on their next call, and nothing new is made in it; history stays."""
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_GROUPS, group)
        if group.parent is None:
            raise Refused("The organisation itself cannot be archived.")
        if group.archived_at is None:
            group.archived_at = timezone.now()
            Group.objects.filter(pk=group.pk).update(archived_at=group.archived_at)
            audit("group.archived", by=by, target=group)
    return group


def restore_group(group: Group, *, by: Actor) -> Group:
    """The opposite of archive_group; a group below an archived one waits for that, and a name may be another one's by now."""
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_GROUPS, group)
        if group.archived_at is not None:
            if group.parent is not None:
                refuse_archived(group.parent)
                refuse_namesake(group.name, below=group.parent, but=group, field=None)
            group.archived_at = None
            Group.objects.filter(pk=group.pk).update(archived_at=None)
            audit("group.restored", by=by, target=group)
    return group
