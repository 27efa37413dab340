"""Sign-ins that a browser has begun and not finished, kept in its session: each is answered once, within ten minutes."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from django.contrib.sessions.backends.base import SessionBase

ATTEMPTS = "sso_attempts"
INTENT = "sso_intent"
MOST = 10
LIFE_SECONDS = 600
# From the press of a button on one of our pages to the redirect that it asks for.
INTENT_SECONDS = 120


@dataclass(frozen=True)
class Intent:
    """The person pressed a button here: only then is a browser sent to an identity provider, never by a link elsewhere.

    `trial`: nobody is signed in, what would happen is shown.
    """

    slug: str
    email: str = ""
    next: str = ""
    trial: bool = False
    at: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Attempt:
    """What must come back (`key`: OIDC's state, SAML's request id), and where the person wanted to go."""

    slug: str
    key: str
    next: str
    trial: bool
    nonce: str = ""
    verifier: str = ""
    at: float = field(default_factory=time.time)


def intend(session: SessionBase, slug: str, **more: Any) -> None:
    session[INTENT] = asdict(Intent(slug, **more))


def take_intent(session: SessionBase, slug: str) -> Intent | None:
    kept = session.pop(INTENT, None)
    intent = Intent(**kept) if kept else None
    return intent if intent and intent.slug == slug and time.time() - intent.at < INTENT_SECONDS else None


def new_secret() -> str:
    """Long enough for a verifier of PKCE, which has at least 43 letters and digits."""
    return secrets.token_urlsafe(48)


def remember(session: SessionBase, attempt: Attempt) -> None:
    session[ATTEMPTS] = [*session.get(ATTEMPTS, [])[1 - MOST :], asdict(attempt)]


def take(session: SessionBase, *, slug: str, key: str) -> Attempt | None:
    """Taken once, whatever comes of it."""
    kept = [Attempt(**one) for one in session.get(ATTEMPTS, [])]
    given = key.encode(errors="replace")  # whatever the address said: texts beyond ASCII cannot be compared
    found = next((one for one in kept if one.slug == slug and secrets.compare_digest(one.key.encode(), given)), None)
    if found is None:
        return None
    session[ATTEMPTS] = [asdict(one) for one in kept if one is not found]
    return found if time.time() - found.at < LIFE_SECONDS else None
