from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from django.utils import timezone

from gateway_project.lib.crypto import digest
from orgs import checks
from orgs.actor import LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import NotAllowed, Refused
from orgs.keys import new_key_text
from orgs.models import ApiKey, Application, Group, User
from orgs.permissions import Permission
from orgs.services.changes import changing, clean_labels, clean_name, fresh_group, refuse_archived


def create_api_key(
    group: Group,
    *,
    name: str,
    by: Actor,
    member: User | None = None,
    application: Application | None = None,
    environment: str = "",
    features: Iterable[str] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A key at home in `group`, and its text, which is given here once and kept nowhere.

    A member's key names its member; a service key has none and stands in its application's own group.
    """
    with changing(by.organization):
        group = fresh_group(group)
        _require_home(group, by=by, member=member, application=application)
        bound = _fresh_application(application)
        features = _refuse_foreign_binding(group, application=bound, environment=environment, features=features)
        if expires_at is not None and expires_at <= timezone.now():
            raise Refused("The expiry lies in the past.", field="expires_at")
        checks.refuse_key(group, member=member, application=bound)
        text = new_key_text()
        key = ApiKey.objects.create(
            organization=by.organization,
            group=group,
            member=member,
            application=bound,
            environment=environment,
            features=features,
            name=clean_name(name),
            public_id=text.public_id,
            digest=digest(text.text),
            last_four=text.last_four,
            expires_at=expires_at,
            created_by=by.user,
        )
        audit("key.created", by=by, target=key, after=_key_facts(key))
    return key, text.text


def rename_key(key: ApiKey, *, name: str, by: Actor) -> ApiKey:
    with _changing_key(key, by=by) as fresh:
        before, fresh.name = fresh.name, clean_name(name)
        fresh.save(update_fields=["name"])
        audit("key.renamed", by=by, target=fresh, before={"name": before}, after={"name": fresh.name})
    return fresh


def disable_key(key: ApiKey, *, by: Actor) -> ApiKey:
    """Its next call is refused; enable_key brings it back."""
    with _changing_key(key, by=by) as fresh:
        # An admin's ban replaces the member's own.
        if not fresh.disabled_at or (fresh.disabled_by_id == fresh.member_id != by.user.pk):
            fresh.disabled_at, fresh.disabled_by = timezone.now(), by.user
            fresh.save(update_fields=["disabled_at", "disabled_by"])
            audit("key.disabled", by=by, target=fresh)
    return fresh


def enable_key(key: ApiKey, *, by: Actor) -> ApiKey:
    """What someone else disabled its member cannot bring back without the permission to manage keys there."""
    with _changing_key(key, by=by) as fresh:
        if fresh.disabled_at:
            if fresh.disabled_by_id != by.user.pk:
                by.require(Permission.MANAGE_KEYS, fresh.group)
            fresh.disabled_at, fresh.disabled_by = None, None
            fresh.save(update_fields=["disabled_at", "disabled_by"])
            audit("key.enabled", by=by, target=fresh)
    return fresh


def revoke_key(key: ApiKey, *, by: Actor) -> ApiKey:
    """For ever: the row stays, because the ledger and the audit trail name it."""
    with _changing_key(key, by=by) as fresh:
        fresh.revoked_at = timezone.now()
        fresh.save(update_fields=["revoked_at"])
        audit("key.revoked", by=by, target=fresh, before=_key_facts(fresh))
    return fresh


@contextmanager
def _changing_key(key: ApiKey, *, by: Actor) -> Iterator[ApiKey]:
    with changing(by.organization):
        fresh = ApiKey.objects.select_related("member", "application", LINEAGE).get(pk=key.pk)
        if not by.can_with_key(Permission.MANAGE_KEYS, fresh):
            raise NotAllowed(Permission.MANAGE_KEYS, group=fresh.group)
        if fresh.revoked_at:
            raise Refused("This key was deleted.")
        yield fresh


def _require_home(group: Group, *, by: Actor, member: User | None, application: Application | None) -> None:
    """Own keys: a node of one's own membership, or one where one manages keys. Others' keys: a node of theirs."""
    manages = by.can(Permission.MANAGE_KEYS, group)
    if not manages and not (member == by.user and by.can(Permission.MANAGE_OWN_KEYS, group)):
        raise NotAllowed(Permission.MANAGE_KEYS, group=group)
    refuse_archived(group)
    if member is None and (application is None or application.group_id != group.pk):
        raise Refused("A service key belongs to an application and is at home in its group.", field="application")
    if member not in (None, by.user) and not Actor.load(member, organization=by.organization).belongs_to(group):
        raise Refused(f"{member} is not an active member of {group}.", field="member")


def _refuse_foreign_binding(
    group: Group, *, application: Application | None, environment: str, features: Iterable[str]
) -> list[str]:
    features = clean_labels(features, field="features")
    if application is None:
        if environment or features:
            raise Refused("An environment and features belong to an application: choose one.", field="application")
        return features
    if application.organization_id != group.organization_id or not application.group.contains(group) or application.archived_at:
        raise Refused(f"{application} cannot be named by keys of {group}.", field="application")
    if environment and environment not in application.environments:
        raise Refused(f"{application} has no environment “{environment}”.", field="environment")
    if unknown := sorted(set(features).difference(application.features)):
        raise Refused(f"{application} has no feature “{unknown[0]}”.", field="features")
    return features


def _key_facts(key: ApiKey) -> dict[str, Value]:
    return {
        "public_id": key.public_id,
        "group": key.group_id,
        "member": key.member_id,
        "application": key.application_id,
        "environment": key.environment,
        "features": key.features,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }


def _fresh_application(application: Application | None) -> Application | None:
    return application and Application.objects.select_related("group").get(pk=application.pk)
