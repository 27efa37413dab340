"""What a directory may do: people and groups, made, changed and taken away.

Every function raises orgs.errors.Refused or a SCIMException and then has changed nothing. A person is matched with an
account by orgs/scim/accounts.py; what it gets for being here is orgs/scim/giving.py's business.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone
from scim2_models import InvalidValueException, UniquenessException

from gateway_project.lib.queries import id_in
from orgs.actor import LINEAGE
from orgs.models import User
from orgs.scim import resources
from orgs.scim.accounts import NAME_LENGTH as ACCOUNT_NAME_LENGTH
from orgs.scim.accounts import account_of, address_of, named_address, readdress
from orgs.scim.acting import Directory
from orgs.scim.giving import activate, deactivate, end_everything, settle
from orgs.scim_models import NAME_LENGTH, DirectoryGroup, DirectoryUser
from orgs.services.changes import alike, changing

MOST_EMAILS = 20


def users(by: Directory, condition: Q) -> QuerySet[DirectoryUser]:
    found = DirectoryUser.objects.filter(condition, organization=by.organization).order_by("pk").distinct()
    return found.select_related("user", LINEAGE).prefetch_related("directory_groups")


def groups(by: Directory, condition: Q, *, with_people: bool = True) -> QuerySet[DirectoryGroup]:
    found = DirectoryGroup.objects.filter(condition, organization=by.organization).order_by("pk").distinct()
    return found.prefetch_related("people") if with_people else found


def create_user(wanted: resources.User, *, by: Directory) -> DirectoryUser:
    with changing(by.organization):
        name = wanted.user_name or ""
        facts = _facts_of_user(wanted)
        _refuse_taken(name, by=by)
        account, made = account_of(address_of(wanted), name=_shown_name(wanted), organization=by.organization)
        if DirectoryUser.objects.filter(organization=by.organization, user=account).exists():
            raise UniquenessException(detail=f"{account.email} is in the directory already, by another user name.")
        row = DirectoryUser.objects.create(
            organization=by.organization, user=account, group=by.provisioning.group, user_name=name, made_account=made, **facts
        )
        by.audit("directory.user_created", target=row, after={"user": account.pk, "user_name": name, "made_account": made})
        settle(row, by=by)
        if wanted.active is False:
            deactivate(row, by=by)
    return row


def save_user(row: DirectoryUser, wanted: resources.User, *, by: Directory) -> DirectoryUser:
    """`wanted` is the whole user as it shall be."""
    with changing(by.organization):
        row = users(by, Q(pk=row.pk)).get()
        after = {"user_name": wanted.user_name or row.user_name, **_facts_of_user(wanted)}
        _refuse_taken(after["user_name"], by=by, but=row)
        before = {"user_name": row.user_name, "address": named_address(row.user_name, row.emails)}
        changed = sorted(field for field, value in after.items() if getattr(row, field) != value)
        if changed:
            DirectoryUser.objects.filter(pk=row.pk).update(changed_at=timezone.now(), **after)
            row.refresh_from_db()
            # Which, not what: the trail is no second copy of the directory.
            renamed = {"user_name": before["user_name"]} if "user_name" in changed else {}
            by.audit("directory.user_changed", target=row, before=renamed, after={"changed": changed})
            if _follows(row):
                _rename_account(row, wanted)
                _readdress_account(row, before["address"], by=by)
        (deactivate if wanted.active is False else activate)(row, by=by)
    return row


def remove_user(row: DirectoryUser, *, by: Directory) -> None:
    with changing(by.organization):
        end_everything(row, by=by)
        by.audit("directory.user_removed", target=row, before={"user": row.user_id, "user_name": row.user_name})
        row.delete()


def create_group(wanted: resources.Group, *, by: Directory) -> DirectoryGroup:
    with changing(by.organization):
        row = DirectoryGroup(organization=by.organization)
        _write_group(row, wanted)
        row.save()
        by.audit("directory.group_created", target=row, after={"display_name": row.display_name})
        _set_people(row, wanted, by=by)
    return row


def save_group(row: DirectoryGroup, wanted: resources.Group, *, by: Directory) -> DirectoryGroup:
    """`wanted` is the whole group as it shall be. Its link to the tree stays."""
    with changing(by.organization):
        row.refresh_from_db()
        before = row.display_name
        _write_group(row, wanted)
        row.changed_at = timezone.now()
        row.save()
        if row.display_name != before:
            after = {"display_name": row.display_name}
            by.audit("directory.group_renamed", target=row, before={"display_name": before}, after=after)
        _set_people(row, wanted, by=by)
    return row


def remove_group(row: DirectoryGroup, *, by: Directory) -> None:
    """Who was in it loses what it gave."""
    with changing(by.organization):
        people = list(row.people.select_related("user", LINEAGE))
        by.audit("directory.group_removed", target=row, before={"display_name": row.display_name})
        row.delete()
        for person in people:
            settle(person, by=by)


def _facts_of_user(wanted: resources.User) -> dict[str, Any]:
    """The columns. Raises InvalidValueException."""
    name = wanted.name or resources.Name()
    texts = {
        "external_id": wanted.external_id,
        "display_name": wanted.display_name,
        "given_name": name.given_name,
        "family_name": name.family_name,
        "formatted_name": name.formatted,
    }
    emails = [email.model_dump() for email in wanted.emails or []]
    if len(emails) > MOST_EMAILS:
        raise InvalidValueException(detail=f"At most {MOST_EMAILS} addresses are kept.")
    for text in (wanted.user_name, *texts.values(), *(part for email in emails for part in email.values())):
        _refuse_odd(text)
    return {**{field: text or "" for field, text in texts.items()}, "emails": emails}


def _refuse_odd(text: Any) -> None:
    if isinstance(text, str) and (len(text) > NAME_LENGTH or "\0" in text):
        raise InvalidValueException(detail=f"A text has at most {NAME_LENGTH} characters, none of them NUL.")


def _shown_name(wanted: resources.User) -> str:
    name = wanted.name or resources.Name()
    parts = " ".join(part for part in (name.given_name, name.family_name) if part)
    return wanted.display_name or name.formatted or parts


def _follows(row: DirectoryUser) -> bool:
    """Whether the account was made for this directory, and belongs to no other company and to no operator."""
    elsewhere = row.user.memberships.exclude(organization=row.organization_id).exclude(organization__kind="personal")
    of_operator = row.user.is_staff or row.user.is_superuser
    return row.made_account and not of_operator and not elsewhere.exists()


def _rename_account(row: DirectoryUser, wanted: resources.User) -> None:
    if name := _shown_name(wanted)[:ACCOUNT_NAME_LENGTH]:
        User.objects.filter(pk=row.user_id).update(name=name)


def _readdress_account(row: DirectoryUser, before: str | None, *, by: Directory) -> None:
    """Where the directory names another address than before, and the person has not chosen one itself meanwhile."""
    address = named_address(row.user_name, row.emails)
    if address is not None and address != before == row.user.email:
        readdress(row.user, address, organization=by.organization)
        by.audit("directory.address_changed", target=row, before={"email": before}, after={"email": address})


def _refuse_taken(name: str, *, by: Directory, but: DirectoryUser | None = None) -> None:
    same = alike(DirectoryUser.objects.filter(organization=by.organization), "user_name", name)
    if (same.exclude(pk=but.pk) if but else same).exists():
        raise UniquenessException(detail=f"{name} is in the directory already.")


def _write_group(row: DirectoryGroup, wanted: resources.Group) -> None:
    name = wanted.display_name or ""
    _refuse_odd(name)
    _refuse_odd(wanted.external_id)
    same = alike(DirectoryGroup.objects.filter(organization=row.organization), "display_name", name)
    if same.exclude(pk=row.pk).exists():
        raise UniquenessException(detail=f"There is a group {name} already.")
    row.display_name, row.external_id = name, wanted.external_id or ""


def _set_people(row: DirectoryGroup, wanted: resources.Group, *, by: Directory) -> None:
    """Only whom it concerns is looked at: groups of thousands change by one."""
    named = {id_in(member.value or "") for member in wanted.members or []}
    ids = {number for number in named if number is not None}
    before = set(row.people.values_list("pk", flat=True))
    known = set(DirectoryUser.objects.filter(organization=by.organization, pk__in=ids).values_list("pk", flat=True))
    if len(known) != len(named):
        raise InvalidValueException(detail="A member of the group is no user of this directory.")
    added, removed = known - before, before - known
    row.people.add(*added)
    row.people.remove(*removed)
    if added or removed:
        by.audit("directory.group_changed", target=row, after={"added": len(added), "removed": len(removed)})
    if row.group_id:
        for person in users(by, Q(pk__in=added | removed)):
            settle(person, by=by)
