"""Personal access tokens: made and revoked by their person, found by their text."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from gateway_project.lib.crypto import digest
from gateway_project.lib.written import Written
from orgs.audit import Value, audit_as
from orgs.errors import Refused
from orgs.models import AccessToken, User
from orgs.origin import NOWHERE, Origin
from orgs.services.changes import clean_name
from orgs.tokens import SCOPES, TEXT, new_token_text

MOST_TOKENS = 50
LONGEST = timedelta(days=366)
# The row is not written at every request.
USED_AGAIN_AFTER = timedelta(minutes=1)
_TOKEN: Written[AccessToken] = Written(
    lambda public_id: AccessToken.objects.filter(public_id=public_id, revoked_at=None).select_related("user"), str
)


def create_token(
    user: User, *, name: str, scopes: Iterable[str], expires_at: datetime, origin: Origin = NOWHERE
) -> tuple[AccessToken, str]:
    """The token and its text, which is given here once and kept nowhere. Raises Refused."""
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= set(SCOPES):
        raise Refused("Choose what the token may be used for.", field="scopes")
    if not timezone.now() < expires_at <= timezone.now() + LONGEST:
        raise Refused("A token ends within a year from now.", field="expires_at")
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if AccessToken.objects.filter(user=user).filter(alive()).count() >= MOST_TOKENS:
            raise Refused(f"You have {MOST_TOKENS} tokens: revoke one first.")
        text = new_token_text()
        token = AccessToken.objects.create(
            user=user,
            name=clean_name(name),
            scopes=wanted,
            expires_at=expires_at,
            public_id=text.public_id,
            last_four=text.last_four,
            digest=digest(text.text),
        )
        facts: dict[str, Value] = {"public_id": token.public_id, "scopes": wanted, "expires_at": expires_at.isoformat()}
        audit_as(user, "api_token.created", organization=None, origin=origin, target=token, after=facts)
    return token, text.text


def revoke_token(token: AccessToken, *, origin: Origin = NOWHERE) -> None:
    """It fails on its next use. Twice is as good as once."""
    with transaction.atomic():
        fresh = AccessToken.objects.select_for_update().get(pk=token.pk)
        if not fresh.revoked_at:
            fresh.revoked_at = timezone.now()
            fresh.save(update_fields=["revoked_at"])
            audit_as(fresh.user, "api_token.revoked", organization=None, origin=origin, target=fresh)


def token_of(text: str) -> AccessToken | None:
    """The live token with this text, of a person who may sign in; its use is noted."""
    named = TEXT.fullmatch(text)
    token, now = named and _TOKEN.sole(named[1]), timezone.now()
    if not token or token.expires_at <= now or not token.user.is_active:
        return None
    if not hmac.compare_digest(bytes(token.digest), digest(text)):
        return None
    if token.last_used_at is None or token.last_used_at < now - USED_AGAIN_AFTER:
        AccessToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def tokens_of(user: User) -> list[AccessToken]:
    """Those that work, newest first."""
    return list(AccessToken.objects.filter(alive(), user=user).order_by("-pk"))


def own_token(user: User, token_id: int) -> AccessToken | None:
    return AccessToken.objects.filter(user=user, pk=token_id).first()


def alive() -> Q:
    return Q(revoked_at=None, expires_at__gt=timezone.now())
