from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.utils import timezone

from gateway_project.lib.crypto import digest
from gateway_project.lib.written import Written
from orgs import checks, key_mail
from orgs.actor import LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import NotAllowed, Refused
from orgs.keys import new_key_text
from orgs.models import ApiKey, Application, AuditEvent, Group, User
from orgs.permissions import Permission
from orgs.services.changes import changing, clean_labels, clean_name, fresh_group, refuse_archived

# Long enough to tell everybody, short enough that a text which leaked is not forgotten.
LONGEST_GRACE = timedelta(days=90)
KEY_EXPIRY_SET = "key.expiry_set"
_KEY: Written[ApiKey] = Written(lambda pk: ApiKey.objects.filter(pk=pk).select_related("member", "application", LINEAGE), int)


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

    A member's key names its member, who is told where somebody else makes it; a service key has none and stands in its
    application's own group. Raises Refused, NotAllowed.
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
        if member not in (None, by.user):
            key_mail.queue(key)
    return key, text.text


def rename_key(key: ApiKey, *, name: str, by: Actor) -> ApiKey:
    with changing_key(key, by=by) as fresh:
        before, fresh.name = fresh.name, clean_name(name)
        fresh.save(update_fields=["name"])
        audit("key.renamed", by=by, target=fresh, before={"name": before}, after={"name": fresh.name})
    return fresh


def edit_key(
    key: ApiKey,
    *,
    name: str,
    by: Actor,
    application: Application | None = None,
    environment: str = "",
    features: Iterable[str] = (),
    expires_at: datetime | None = None,
) -> ApiKey:
    """Name, attribution and expiry, all at once; they hold from the next call on. Calls made keep what they were made with.

    A service key stays its application's. What an admin set as a member's end the member can only bring nearer.
    """
    with changing_key(key, by=by) as fresh:
        before = {"name": fresh.name, **_key_facts(fresh)}
        bound = _fresh_application(application)
        if fresh.member_id is None and bound != fresh.application:
            raise Refused("A service key stays with its application.", field="application")
        if bound is not None and bound != fresh.application:
            checks.refuse_key(fresh.group, member=fresh.member, application=bound, made=False)
        fresh.features = _refuse_foreign_binding(
            fresh.group, application=bound, environment=environment, features=features, is_new=bound != fresh.application
        )
        fresh.name, fresh.application, fresh.environment = clean_name(name), bound, environment
        moved = expires_at != fresh.expires_at
        if moved:
            _refuse_expiry(fresh, expires_at, by=by)
            fresh.expires_at = expires_at
        after = {"name": fresh.name, **_key_facts(fresh)}
        if after != before:
            fresh.save(update_fields=["name", "application", "environment", "features", "expires_at"])
            audit(KEY_EXPIRY_SET if moved else "key.edited", by=by, target=fresh, before=before, after=after)
    return fresh


def rotate_key(key: ApiKey, *, by: Actor, old_until: datetime | None = None) -> tuple[ApiKey, str]:
    """The same key with a new text, which is given here once. The old one works until `old_until`; None: no longer.

    A key has two texts at most: one that an earlier rotation left working stops at once.
    """
    with changing_key(key, by=by) as fresh:
        now = timezone.now()
        if old_until is not None and not now < old_until <= now + LONGEST_GRACE:
            raise Refused(f"The old text can go on for at most {LONGEST_GRACE.days} days from now.", field="old_until")
        text = new_key_text(fresh.public_id)
        fresh.old_digest, fresh.old_last_four, fresh.old_until = fresh.digest, fresh.last_four, old_until or now
        fresh.digest, fresh.last_four = digest(text.text), text.last_four
        fresh.save(update_fields=["digest", "last_four", "old_digest", "old_last_four", "old_until"])
        until = {"old_last_four": fresh.old_last_four, "old_until": (old_until or now).isoformat()}
        audit("key.rotated", by=by, target=fresh, after={"last_four": fresh.last_four, **until})
        key_mail.queue_change(fresh, "rotated", by=by.account)
    return fresh, text.text


def end_old_text(key: ApiKey, *, by: Actor) -> ApiKey:
    """What a rotation left working is refused from the next call on."""
    with changing_key(key, by=by) as fresh:
        if fresh.has_two_texts and fresh.old_until is not None:
            before, fresh.old_until = fresh.old_until, timezone.now()
            fresh.save(update_fields=["old_until"])
            audit("key.old_text_ended", by=by, target=fresh, before={"old_until": before.isoformat()})
    return fresh


def disable_key(key: ApiKey, *, by: Actor) -> ApiKey:
    """Its next call is refused; enable_key brings it back."""
    with changing_key(key, by=by) as fresh:
        # An admin's ban replaces the member's own.
        if not fresh.disabled_at or (fresh.disabled_by_id == fresh.member_id != by.user.pk):
            fresh.disabled_at, fresh.disabled_by = timezone.now(), by.user
            fresh.save(update_fields=["disabled_at", "disabled_by"])
            audit("key.disabled", by=by, target=fresh)
    return fresh


def enable_key(key: ApiKey, *, by: Actor) -> ApiKey:
    """What someone else disabled its member cannot bring back without the permission to manage keys there."""
    with changing_key(key, by=by) as fresh:
        if fresh.disabled_at:
            if fresh.disabled_by_id != by.user.pk:
                by.require(Permission.MANAGE_KEYS, fresh.group)
            fresh.disabled_at, fresh.disabled_by = None, None
            fresh.save(update_fields=["disabled_at", "disabled_by"])
            audit("key.enabled", by=by, target=fresh)
    return fresh


def revoke_key(key: ApiKey, *, by: Actor, in_use: bool = True) -> ApiKey:
    """For ever: the row stays, because the ledger and the audit trail name it. Not `in_use`: one that works is refused, even one
    that somebody enables at this moment."""
    with changing_key(key, by=by) as fresh:
        if not in_use and fresh.status == "active":
            raise Refused("Disable it first: that can be undone.")
        fresh.revoked_at = timezone.now()
        fresh.save(update_fields=["revoked_at"])
        audit("key.revoked", by=by, target=fresh, before=_key_facts(fresh))
        key_mail.queue_change(fresh, "deleted", by=by.account)
    return fresh


@contextmanager
def changing_key(key: ApiKey, *, by: Actor) -> Iterator[ApiKey]:
    """The frame of every change of one key: as it is now, under the lock. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _KEY.get(key.pk)
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


def _refuse_expiry(key: ApiKey, expires_at: datetime | None, *, by: Actor) -> None:
    """What anybody but its member set last binds the member, however it has changed it since."""
    if expires_at is not None and expires_at <= timezone.now():
        raise Refused("The expiry lies in the past.", field="expires_at")
    if by.can(Permission.MANAGE_KEYS, key.group):
        return
    events = AuditEvent.objects.filter(organization=key.organization_id, object_type="apikey", object_id=str(key.pk))
    set_by_others = events.filter(action__in=("key.created", KEY_EXPIRY_SET)).exclude(actor=key.member_id)
    facts = set_by_others.order_by("-at", "-pk").values_list("after", flat=True).first() or {}
    ceiling = facts.get("expires_at")
    if ceiling and (expires_at is None or expires_at > datetime.fromisoformat(ceiling)):
        raise Refused("An admin has set when this key ends: you can bring it nearer, not put it off.", field="expires_at")


def _refuse_foreign_binding(
    group: Group, *, application: Application | None, environment: str, features: Iterable[str], is_new: bool = True
) -> list[str]:
    """One that was archived since it was named stays: who renames the key says nothing about it."""
    features = clean_labels(features, field="features")
    if application is None:
        if environment or features:
            raise Refused("An environment and features belong to an application: choose one.", field="application")
        return features
    is_closed = is_new and application.archived_at
    if application.organization_id != group.organization_id or not application.group.contains(group) or is_closed:
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
