"""What happens to a person's way of signing in, for the audit trail of no organisation.

allauth tells it by signals, right after the change and outside its transaction. Whoever gets a new password is signed out
everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from allauth.socialaccount import signals as social
from allauth.socialaccount.models import SocialLogin
from django.core.cache import cache
from django.db import transaction
from django.dispatch import Signal
from django.http import HttpRequest

from orgs.audit import Value, audit_as
from orgs.models import AuditEvent, User
from orgs.origin import origin_of
from orgs.services.sessions import end_sessions

# Guessing is written down once per account and this long, however hard it goes on.
BLOCKED_SECONDS = 300
REFUSED = "sign_in.refused"
FACTORS: dict[str, str] = {
    Authenticator.Type.TOTP: "authenticator app",
    Authenticator.Type.WEBAUTHN: "passkey",
    Authenticator.Type.RECOVERY_CODES: "recovery codes",
}
Facts = dict[str, Value]


def record(
    request: HttpRequest, user: User, action: str, *, before: Facts | None = None, after: Facts | None = None
) -> AuditEvent:
    with transaction.atomic():
        return audit_as(
            user, action, organization=None, origin=origin_of(request), target=user, before=before or {}, after=after or {}
        )


def record_blocked(request: HttpRequest, email: str) -> None:
    """Too many wrong passwords for one account: nobody has signed in, so nobody is the actor."""
    user = User.objects.filter(email__iexact=email).first()
    if user is not None and cache.add(f"sign-in-blocked:{user.pk}", 1, timeout=BLOCKED_SECONDS):
        with transaction.atomic():
            audit_as(None, "sign_in.blocked", organization=None, origin=origin_of(request), target=user)


def record_refused(request: HttpRequest, email: str, *, factor: str) -> None:
    """A wrong password or code. The account is who it happened to: nobody has signed in, so nobody is the actor.

    Bounded by the limits of signing in. What an account nobody has costs the same work, so that time tells nothing.
    """
    user = User.objects.filter(email__iexact=email).first()
    with transaction.atomic():
        facts: Facts = {"factor": factor}
        audit_as(None, REFUSED, organization=None, origin=origin_of(request), target=user or User(pk=0, email=email), after=facts)
        if user is None:
            transaction.set_rollback(True)


def _password(action: str) -> Callable[..., None]:
    def told(request: HttpRequest, user: User, **kwargs: Any) -> None:
        record(request, user, action)
        # A password that is reset is reset by somebody who is not signed in: then no session stays.
        own = request.session.session_key if request.user.is_authenticated else None
        end_sessions(user, but=own, origin=origin_of(request))

    return told


def _factor(action: str) -> Callable[..., None]:
    def told(request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
        record(request, user, action, after={"factor": FACTORS[authenticator.type]})

    return told


def _wrong_code(request: HttpRequest, user: User, authenticator: Authenticator, reauthentication: bool, **kwargs: Any) -> None:
    """Recovery codes are typed where those of the app are."""
    record_refused(request, user.email, factor=FACTORS[authenticator.type])


def _wrong_mailed_code(request: HttpRequest, user: User | None = None, **kwargs: Any) -> None:
    if user is not None:
        record_refused(request, user.email, factor="e-mailed code")


def _address(action: str) -> Callable[..., None]:
    def told(request: HttpRequest, email_address: EmailAddress, **kwargs: Any) -> None:
        record(request, email_address.user, action, after={"email": email_address.email})

    return told


def _signed_in(request: HttpRequest, user: User, **kwargs: Any) -> None:
    methods = [entry.get("method", "") for entry in request.session.get("account_authentication_methods", [])]
    record(request, user, "person.signed_in", after={"methods": methods})


def _address_changed(
    request: HttpRequest, user: User, from_email_address: EmailAddress | None, to_email_address: EmailAddress, **kwargs: Any
) -> None:
    before: Facts = {"email": from_email_address.email if from_email_address else None}
    record(request, user, "email.primary_changed", before=before, after={"email": to_email_address.email})


def _linked(request: HttpRequest, sociallogin: SocialLogin, **kwargs: Any) -> None:
    record(request, cast(User, sociallogin.user), "account.linked", after={"provider": sociallogin.account.provider})


def _unlinked(request: HttpRequest, socialaccount: Any, **kwargs: Any) -> None:
    record(request, socialaccount.user, "account.unlinked", before={"provider": socialaccount.provider})


RECEIVERS: tuple[tuple[Signal, Callable[..., None]], ...] = (
    (account.user_logged_in, _signed_in),
    (account.password_changed, _password("password.changed")),
    (account.password_set, _password("password.set")),
    (account.password_reset, _password("password.reset")),
    (account.email_added, _address("email.added")),
    (account.email_removed, _address("email.removed")),
    (account.email_confirmed, _address("email.confirmed")),
    (account.email_changed, _address_changed),
    (account.login_code_rejected, _wrong_mailed_code),
    (mfa.authentication_failed, _wrong_code),
    (mfa.authenticator_added, _factor("second_factor.added")),
    (mfa.authenticator_removed, _factor("second_factor.removed")),
    (mfa.authenticator_reset, _factor("second_factor.renewed")),
    (social.social_account_added, _linked),
    (social.social_account_removed, _unlinked),
)


def connect() -> None:
    for signal, receiver in RECEIVERS:
        signal.connect(receiver, weak=False, dispatch_uid=f"audit.{id(signal)}")
