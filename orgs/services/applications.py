"""Applications: made, changed, moved to another group, archived and brought back."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, TypedDict, Unpack

from django.db.models import Q
from django.utils import timezone
from django.utils.text import slugify

from gateway_project.lib.written import Written
from orgs import checks
from orgs.actor import LINEAGE, Actor
from orgs.audit import audit
from orgs.errors import Refused
from orgs.models import ApiKey, Application, Group, User
from orgs.permissions import Permission
from orgs.selectors import within
from orgs.services.about import audited, clean_about, differences
from orgs.services.changes import changing, fresh_group, refuse_archived

SLUG_LENGTH = 60
_APPLICATION: Written[Application] = Written(lambda pk: Application.objects.filter(pk=pk).select_related(LINEAGE), int)


class About(TypedDict, total=False):
    """What is said of an application; whoever owns it answers for it and gains no right by that."""

    features: Iterable[str]
    environments: Iterable[str]
    cost_center: str
    owner: User | None


class Named(About, total=False):
    name: str


def create_application(group: Group, *, name: str, by: Actor, slug: str = "", **about: Unpack[About]) -> Application:
    """Keys at home in its group and below may name it, one of its environments and some of its features.

    Without a `slug` one is made of the name."""
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_APPLICATIONS, group)
        refuse_archived(group)
        cleaned = clean_about({"features": (), "environments": (), **about, "name": name}, organization=by.organization)
        slug = _clean_slug(slug) if slug else slug_of(cleaned["name"]) or f"application-{secrets.token_hex(3)}"
        if Application.objects.filter(organization=by.organization, slug=slug).exists():
            raise Refused(f"An application with the address “{slug}” exists already: choose another name.", field="name")
        application = Application.objects.create(organization=by.organization, group=group, slug=slug, **cleaned)
        audit("application.created", by=by, target=application, after={"group": group.pk, **audited(cleaned)})
    return application


def change_application(
    application: Application, *, by: Actor, group: Group | None = None, **wanted: Unpack[Named]
) -> Application:
    """What is not given stays. Into another group it takes its service keys along; calls so far stay where they were."""
    with changing(by.organization):
        application = _fresh(application)
        by.require(Permission.MANAGE_APPLICATIONS, application.group)
        before, after = differences(application, clean_about(wanted, organization=by.organization, standing=application.owner_id))
        _refuse_used_labels(application, after)
        if group is not None and group.pk != application.group_id:
            before["group"], after["group"] = application.group, _new_home(application, group, by=by)
            _move_service_keys(application, to=after["group"], by=by)
        if after:
            for field, value in after.items():
                setattr(application, field, value)
            application.save(update_fields=list(after))
            audit("application.changed", by=by, target=application, before=audited(before), after=audited(after))
    return application


def archive_application(application: Application, *, by: Actor) -> Application:
    """Keys that name it stop on their next call; history stays."""
    with changing(by.organization):
        application = _fresh(application)
        by.require(Permission.MANAGE_APPLICATIONS, application.group)
        if application.archived_at is None:
            application.archived_at = timezone.now()
            application.save(update_fields=["archived_at"])
            audit("application.archived", by=by, target=application)
    return application


def restore_application(application: Application, *, by: Actor) -> Application:
    """The opposite of archive_application, in a group that is open."""
    with changing(by.organization):
        application = _fresh(application)
        by.require(Permission.MANAGE_APPLICATIONS, application.group)
        if application.archived_at is not None:
            refuse_archived(application.group)
            application.archived_at = None
            application.save(update_fields=["archived_at"])
            audit("application.restored", by=by, target=application)
    return application


def slug_of(name: str) -> str:
    """Empty where the name has no letter that an address may hold."""
    return slugify(name)[:SLUG_LENGTH].strip("-")


def _clean_slug(slug: str) -> str:
    if slug != slugify(slug) or len(slug) > SLUG_LENGTH:
        raise Refused(f"Use small letters, digits, - and _, at most {SLUG_LENGTH}.", field="slug")
    return slug


def _fresh(application: Application) -> Application:
    return _APPLICATION.get(application.pk)


def _new_home(application: Application, group: Group, *, by: Actor) -> Group:
    """Members' keys name it only from below: those that would not any more are counted. Raises Refused, NotAllowed."""
    group = fresh_group(group)
    by.require(Permission.MANAGE_APPLICATIONS, group)
    refuse_archived(group)
    outside = ApiKey.objects.filter(application=application, member__isnull=False, revoked_at=None).exclude(
        within([group], field="group")
    )
    if count := outside.count():
        keys = f"{count} member key{'' if count == 1 else 's'} outside {group} name{'s' if count == 1 else ''} it"
        raise Refused(f"{keys}: an application can be named only by keys of its group and below.", field="group")
    return group


def _move_service_keys(application: Application, *, to: Group, by: Actor) -> None:
    own = ApiKey.objects.filter(application=application, member=None)
    keys = list(own.filter(revoked_at=None).select_related(LINEAGE).order_by("pk"))
    checks.refuse_moved_keys(keys, to=to)
    own.update(group=to)
    for key in keys:
        audit("key.moved", by=by, target=key, before={"group": key.group_id}, after={"group": to.pk})


def _refuse_used_labels(application: Application, after: dict[str, Any]) -> None:
    """An environment or feature that a live key carries stays: its calls are recorded under it."""
    live = ApiKey.objects.filter(application=application, revoked_at=None)
    for field, key_names in (("environments", "environment__in"), ("features", "features__overlap")):
        gone = set(getattr(application, field)).difference(after.get(field, getattr(application, field)))
        key = live.filter(Q(**{key_names: sorted(gone)})).first() if gone else None
        if key is not None:
            named = {key.environment, *key.features} & gone
            raise Refused(f"The key “{key}” carries “{min(named)}”: change or delete that key first.", field=field)
