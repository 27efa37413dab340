from __future__ import annotations

import re
import secrets
from contextlib import suppress
from datetime import datetime
from typing import Any, TypedDict, Unpack

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from orgs import epoch
from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Group, Membership, Organization, RoleGrant, User
from orgs.permissions import Permission, RoleName
from orgs.second_factor import has_second_factor
from orgs.services.changes import changing, clean_name, clean_time_zone

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SLUG_LENGTH = 60


@transaction.atomic
def create_organization(
    name: str, *, owner: User, kind: Organization.Kind = Organization.Kind.COMPANY, time_zone: str = "UTC", slug: str = ""
) -> Organization:
    """With its root group; the owner becomes its first member and Super Admin. Without a `slug` one is made of the name."""
    name = clean_name(name)
    slugs = [_clean_slug(slug)] if slug else _slugs_for(name)
    organization = _insert_with_free_slug(slugs, name=name, kind=kind, time_zone=clean_time_zone(time_zone))
    # Written as it is, not by django-mptt: that would order the new tree among all tenants' trees and renumber theirs.
    root = Group(organization=organization, name=name, level=0, lft=1, rght=2, tree_id=organization.pk)  # type: ignore[no-untyped-call]
    root.save()  # type: ignore[no-untyped-call]
    Membership.objects.create(user=owner, organization=organization, group=root)
    RoleGrant.objects.create(user=owner, organization=organization, group=root, role=RoleName.ADMIN)
    audit(
        "organization.created",
        by=Actor.load(owner, organization=organization),
        target=organization,
        after={"name": name, "kind": organization.kind},
    )
    epoch.changing(organization.pk)
    return organization


def may_create_organization(user: User) -> bool:
    """Everyone, or the operator only: a setting of the installation."""
    return settings.ORGANIZATIONS_OPEN or user.is_staff


def create_personal_account(user: User) -> Organization:
    """The person's own organisation of one; the existing one where there is one already."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        own = Organization.objects.filter(kind=Organization.Kind.PERSONAL, grants__user=user, grants__role=RoleName.ADMIN)
        return own.first() or create_organization(user.display_name, owner=user, kind=Organization.Kind.PERSONAL)


class Settings(TypedDict, total=False):
    """What an organisation sets for itself; the model's help texts say what each means."""

    name: str
    time_zone: str
    week_start: int
    fiscal_month: int
    reset_hour: int
    attribution_required: bool
    approval_since: datetime | None
    admit_unguarded: bool
    content_retention_hours: int
    content_sample_percent: int
    zdr_only: bool
    second_factor_required: bool


def change_settings(organization: Organization, *, by: Actor, **wanted: Unpack[Settings]) -> Organization:
    """What is not given stays. The root group carries the organisation's name. Raises Refused, NotAllowed.

    A new calendar re-sums nothing here: every worker compiles its limits anew (the epoch), and the beginnings of windows
    that no counter knows yet are read from the ledger.
    """
    with changing(organization):
        root = organization.root
        by.require(Permission.MANAGE_SETTINGS, root)
        organization.refresh_from_db()
        before = {field: getattr(organization, field) for field in wanted}
        after = {field: value for field, value in _clean(wanted).items() if value != before[field]}
        _refuse_kept_contents(organization, after)
        if after.get("second_factor_required") and by.account and not has_second_factor(by.account):
            raise Refused(
                "Set up a second factor for yourself first: this would keep you out, too.", field="second_factor_required"
            )
        if after:
            Organization.objects.filter(pk=organization.pk).update(**after)
            # An update, not a save: django-mptt would move the tree to the new name's place among all tenants' trees.
            Group.objects.filter(pk=root.pk).update(name=after.get("name", root.name))
            organization.refresh_from_db()
            audit(
                "organization.changed",
                by=by,
                target=organization,
                before={field: _audited(before[field]) for field in after},
                after={field: _audited(value) for field, value in after.items()},
            )
    return organization


def close_first_steps(organization: Organization, *, by: Actor) -> None:
    """For everyone: the list of first steps is of the organisation."""
    with changing(organization):
        by.require(Permission.MANAGE_SETTINGS, organization.root)
        if Organization.objects.filter(pk=organization.pk, first_steps_closed_at=None).update(
            first_steps_closed_at=timezone.now()
        ):
            audit("organization.first_steps_closed", by=by, target=organization)


# The bounds of what the calendar's numbers may be, first and last; and of every number.
CALENDAR = {"week_start": (0, 6), "fiscal_month": (1, 12), "reset_hour": (0, 23)}
BOUNDS = {**CALENDAR, "content_retention_hours": (0, Organization.MOST_RETENTION_HOURS), "content_sample_percent": (1, 100)}


def _clean(wanted: Settings) -> dict[str, Any]:
    cleaned: dict[str, Any] = dict(wanted)
    if "name" in cleaned:
        cleaned["name"] = clean_name(cleaned["name"])
    if "time_zone" in cleaned:
        cleaned["time_zone"] = clean_time_zone(cleaned["time_zone"])
    for field, (first, last) in BOUNDS.items():
        if field in cleaned and not first <= cleaned[field] <= last:
            raise Refused(f"Give a number from {first} to {last}.", field=field)
    return cleaned


def _refuse_kept_contents(organization: Organization, wanted: dict[str, Any]) -> None:
    """Raises Refused where nothing may be retained anywhere and contents would be kept here."""
    hours = wanted.get("content_retention_hours", organization.content_retention_hours)
    if wanted.get("zdr_only", organization.zdr_only) and hours:
        field = "zdr_only" if "zdr_only" in wanted else "content_retention_hours"
        raise Refused("With zero data retention no contents are kept here either: keep them for 0 hours.", field=field)


def _audited(value: Any) -> Value:
    return value.isoformat() if isinstance(value, datetime) else value


def _clean_slug(slug: str) -> str:
    if not SLUG.fullmatch(slug) or len(slug) > SLUG_LENGTH:
        raise Refused(f"Use small letters, digits and single hyphens between them, at most {SLUG_LENGTH}.", field="slug")
    return slug


def _slugs_for(name: str) -> list[str]:
    base = slugify(name)[:50].strip("-") or "organization"
    return [base, *(f"{base}-{secrets.token_hex(3)}" for _ in range(10))]


def _insert_with_free_slug(slugs: list[str], **fields: Any) -> Organization:
    for slug in slugs:
        with suppress(IntegrityError), transaction.atomic():
            return Organization.objects.create(slug=slug, **fields)
    if len(slugs) == 1:
        raise Refused(f"“{slugs[0]}” is taken: choose another address.", field="slug")
    raise Refused("No free address was found for this name: choose another one.", field="name")
