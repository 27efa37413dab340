"""The frame of every change, and what all changes check.

A change runs in one transaction that holds the organisation's row, so that changes of one organisation happen one
after the other and each check sees what the one before it did; announces itself to the proxy (orgs/epoch.py); asks
for the permission at the very node; and writes its audit event. Raises Refused or NotAllowed (orgs/errors.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar
from zoneinfo import available_timezones

from django.db import connection, transaction
from django.db.models import Model, QuerySet, Value
from django.db.models.functions import Lower
from django.db.models.lookups import Exact

from gateway_project.lib.written import Written
from orgs import epoch
from orgs.actor import ABOVE
from orgs.errors import Refused
from orgs.models import Group, Membership, Organization, User

NAME_LENGTH = 120
COST_CENTER_LENGTH = 60
KIND_LENGTH = 40
LABEL_LENGTHS = {"features": 60, "environments": 30}
Row = TypeVar("Row", bound=Model)
LABEL = re.compile(r"[A-Za-z0-9_-]+")
_LOCKED: Written[Organization] = Written(lambda pk: Organization.objects.select_for_update(no_key=True).filter(pk=pk), int)
_GROUP: Written[Group] = Written(lambda pk: Group.objects.select_related(ABOVE).filter(pk=pk), int)


@contextmanager
def holding(organization: Organization, *, refreshed: bool = False) -> Iterator[None]:
    """Transaction and lock: what is read in it is what a change in it changes. `refreshed`: so is `organization` itself."""
    with transaction.atomic():
        # NO KEY UPDATE: ledger rows, which reference the organisation, are still inserted meanwhile.
        if refreshed:
            organization.refresh_from_db(from_queryset=Organization.objects.select_for_update(no_key=True))
        else:
            _LOCKED.get(organization.pk)
        yield


@contextmanager
def changing(organization: Organization) -> Iterator[None]:
    """The frame of every change: transaction, lock, announcement. Other apps' changes of the organisation use it too."""
    with holding(organization):
        yield
        # Last, so that a refused change leaves no mark that would keep workers from caching for a minute.
        epoch.changing(organization.pk)


def fresh_group(group: Group) -> Group:
    """As it is now, under the lock."""
    return _GROUP.get(group.pk)


def refuse_archived(group: Group, *, field: str = "group") -> None:
    """Nothing new is made in an archived group, nor below one. Raises Refused."""
    archived = group.closed_by
    if archived is not None:
        where = f"{group} is archived." if archived == group else f"{group} lies in {archived}, which is archived."
        raise Refused(where, field=field)


def called(name: str, *, below: Group) -> QuerySet[Group]:
    """The groups directly below, archived ones too, that are called so in large or small letters."""
    return alike(Group.objects.filter(parent=below), "name", name)


def alike(rows: QuerySet[Row], field: str, text: str) -> QuerySet[Row]:
    """Those that a constraint on Lower(field) takes for the same. Not `iexact`, which compares capitals: “ß” has none."""
    return rows.filter(Exact(Lower(field), Lower(Value(text))))


def refuse_namesake(name: str, *, below: Group, but: Group | None = None, field: str | None = "name") -> None:
    """Groups in use beside each other are told apart by their names, large or small letters alike. Raises Refused."""
    namesake = called(name, below=below).filter(archived_at=None).exclude(pk__in=[but.pk] if but else []).first()
    if namesake is not None:
        raise Refused(f"{below} has a group “{namesake}” already: two beside each other cannot have the same name.", field=field)


def one_line(text: str) -> str:
    """With single spaces, and each letter written in the one way that Unicode calls composed: what looks the same is the same."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def clean_name(name: str) -> str:
    name = one_line(name)
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise Refused(f"A name has 1 to {NAME_LENGTH} visible characters.", field="name")
    return name


def clean_line(text: str, *, field: str, length: int) -> str:
    """Optional words on one line: a kind, a cost centre."""
    text = one_line(text)
    if len(text) > length or not text.isprintable():
        raise Refused(f"At most {length} visible characters.", field=field)
    return text


def require_owner(owner: User, organization: Organization) -> None:
    """Whoever answers for a group or an application belongs to the organisation. Raises Refused."""
    if not Membership.objects.filter(user=owner, organization=organization, suspended_at=None).exists():
        raise Refused(f"{owner} is not an active member of {organization}.", field="owner")


def clean_labels(labels: Iterable[str], *, field: str) -> list[str]:
    """Sorted, each once. They stand in a header and in ledger rows: letters, digits, - and _."""
    cleaned = sorted({label.strip() for label in labels} - {""})
    for label in cleaned:
        if not LABEL.fullmatch(label) or len(label) > LABEL_LENGTHS[field]:
            raise Refused(f"“{label[:80]}”: use letters, digits, - and _, at most {LABEL_LENGTHS[field]}.", field=field)
    return cleaned


@cache
def time_zones() -> frozenset[str]:
    """Those that Python and PostgreSQL both know: sums by local day name them in SQL, and one unknown name there would
    stop everybody's. Read once: the list comes from hundreds of files, and changes with the machine's packages only.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_timezone_names")
        known = {name for (name,) in cursor.fetchall()}
    # These two are whatever a machine says they are.
    return frozenset(available_timezones() & known - {"Factory", "localtime"})


def zone_named(typed: str) -> str | None:
    """The time zone of this name, or of the city of this name where only one zone is called after it."""
    return typed if typed in time_zones() else _zones_by_words().get(_words(typed))


def clean_time_zone(name: str) -> str:
    found = zone_named(name)
    if found is None:
        raise Refused(f"“{name[:80]}” is not a time zone of the IANA list.", field="time_zone")
    return found


@cache
def _zones_by_words() -> dict[str, str]:
    cities: dict[str, list[str]] = {}
    for zone in time_zones():
        cities.setdefault(_words(zone.rpartition("/")[2]), []).append(zone)
    return {city: zones[0] for city, zones in cities.items() if len(zones) == 1} | {_words(zone): zone for zone in time_zones()}


def _words(name: str) -> str:
    """As people type it: large or small letters, spaces for underscores."""
    return " ".join(name.replace("_", " ").split()).lower()
