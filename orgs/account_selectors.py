"""What a person's own account page says about how they sign in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession

from orgs import user_agents
from orgs.models import AuditEvent, User
from orgs.services.sessions import sessions_of

EVENT_COUNT = 12
# In words of the person whom it happened to.
WORDS = {
    "person.signed_in": "Signed in",
    "person.renamed": "Name changed",
    "password.changed": "Password changed",
    "password.set": "Password set",
    "password.reset": "Password reset by e-mail",
    "email.added": "E-mail address added",
    "email.removed": "E-mail address removed",
    "email.confirmed": "E-mail address confirmed",
    "email.primary_changed": "Main e-mail address changed",
    "second_factor.added": "Second factor added",
    "second_factor.removed": "Second factor removed",
    "second_factor.renewed": "Recovery codes made anew",
    "recovery_codes.viewed": "Recovery codes viewed",
    "account.linked": "Account linked",
    "account.unlinked": "Account unlinked",
    "session.ended": "Session ended",
    "session.all_ended": "Other sessions ended",
    "sign_in.refused": "Sign-in refused",
    "sign_in.blocked": "Sign-in blocked after wrong passwords",
}
ALARMING = {"sign_in.refused", "sign_in.blocked", "second_factor.removed", "password.reset"}


@dataclass(frozen=True)
class Security:
    """`codes_left` is None where there are no recovery codes."""

    has_password: bool
    has_app: bool
    passkey_count: int
    codes_left: int | None
    session_count: int
    linked_count: int
    is_verified: bool

    @property
    def has_second_factor(self) -> bool:
        return self.has_app or self.passkey_count > 0


@dataclass(frozen=True)
class Moment:
    """One event of the person's own trail. `tone` is that of its pill."""

    event: AuditEvent
    words: str
    detail: str
    tone: str
    browser: str


@dataclass(frozen=True)
class Place:
    """Where somebody is signed in."""

    session: UserSession
    browser: str
    icon: str
    is_current: bool


def security_of(user: User) -> Security:
    factors = list(Authenticator.objects.filter(user=user))
    codes = next((factor for factor in factors if factor.type == Authenticator.Type.RECOVERY_CODES), None)
    return Security(
        has_password=user.has_usable_password(),
        has_app=any(factor.type == Authenticator.Type.TOTP for factor in factors),
        passkey_count=sum(factor.type == Authenticator.Type.WEBAUTHN for factor in factors),
        codes_left=len(codes.wrap().get_unused_codes()) if codes else None,
        session_count=sessions_of(user).count(),
        linked_count=SocialAccount.objects.filter(user=user).count(),
        is_verified=EmailAddress.objects.filter(user=user, email__iexact=user.email, verified=True).exists(),
    )


def recent_moments(user: User) -> list[Moment]:
    """The newest of what happened to the account, whoever did it."""
    events = AuditEvent.objects.filter(organization=None, object_type="user", object_id=str(user.pk), action__in=WORDS)
    return [_moment(event) for event in events.order_by("-pk")[:EVENT_COUNT]]


def places_of(user: User, *, current: str | None) -> list[Place]:
    return [
        Place(
            session,
            user_agents.named(session.user_agent),
            "device-mobile" if user_agents.is_phone(session.user_agent) else "device-desktop",
            session.session_key == current,
        )
        for session in sessions_of(user)
    ]


def _moment(event: AuditEvent) -> Moment:
    tone = "warn" if event.action in ALARMING else "muted"
    browser = user_agents.named(event.agent) if event.agent else ""
    return Moment(event, WORDS[event.action], _detail({**event.before, **event.after}), tone, browser)


def _detail(facts: dict[str, object]) -> str:
    found = (facts.get(name) for name in ("factor", "email", "provider", "browser", "methods"))
    texts: Iterable[str] = (", ".join(fact) if isinstance(fact, list) else str(fact) for fact in found if fact)
    return " · ".join(texts)
