"""The words of every message that signing in sends, by the name that allauth knows it by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from gateway_project.lib.formatting import minute_words
from orgs import user_agents
from orgs.mail import Message

IGNORE = "If this was not you, ignore this message: nothing changes."


class Words(NamedTuple):
    """`text` may name what allauth gives along; `link` and `code` name where it gives them."""

    subject: str
    text: str
    button: str = ""
    link: str = ""
    code: str = ""


MESSAGES = {
    "account/email/account_already_exists": Words(
        "You have an account already",
        "Somebody, probably you, tried to sign up with {email}. It has an account already: sign in, or choose a new password.",
        button="Choose a new password",
        link="password_reset_url",
    ),
    "account/email/unknown_account": Words(
        "No account has this address",
        "Somebody, probably you, tried to sign in as {email}. No account has this address; perhaps yours has another.",
        button="Create an account",
        link="signup_url",
    ),
    "account/email/email_confirmation": Words(
        "Confirm your e-mail address",
        "This address was given for an account of Gatehouse. Confirm that it is yours.",
        button="Confirm the address",
        link="activate_url",
    ),
    "account/email/email_confirmation_signup": Words(
        "Welcome: confirm your e-mail address",
        "One step is left until your account is complete: confirm that this address is yours.",
        button="Confirm the address",
        link="activate_url",
    ),
    "account/email/login_code": Words(
        "Your sign-in code",
        "Enter this code in the browser in which you are signing in. It is valid for a few minutes.",
        code="code",
    ),
    "account/email/password_reset_key": Words(
        "Choose a new password",
        "Somebody, probably you, asked for a new password for this account. The link works once.",
        button="Choose a new password",
        link="password_reset_url",
    ),
}
# Told after the fact, to whoever owns the account.
CHANGES = {
    "account/email/password_changed": Words("Your password was changed", "Every other session was signed out."),
    "account/email/password_set": Words("A password was set", "Your account can now be signed in to with a password."),
    "account/email/password_reset": Words(
        "Your password was reset", "It was done by a link sent to your address. Every session was signed out."
    ),
    "account/email/email_changed": Words("Your main address was changed", "It was {from_email} and is now {to_email}."),
    "account/email/email_confirm": Words("Your address is confirmed", "{email} belongs to your account now."),
    "account/email/email_deleted": Words("An address was removed", "{deleted_email} no longer belongs to your account."),
    "mfa/email/totp_activated": Words("Authenticator app added", "Signing in now asks for a code of your authenticator app."),
    "mfa/email/totp_deactivated": Words(
        "Authenticator app removed", "Signing in no longer asks for a code of an authenticator app."
    ),
    "mfa/email/webauthn_added": Words("Passkey added", "A passkey or security key can now be used to sign in to your account."),
    "mfa/email/webauthn_removed": Words("Passkey removed", "A passkey or security key no longer belongs to your account."),
    "mfa/email/recovery_codes_generated": Words("New recovery codes", "The recovery codes made before no longer work."),
    "socialaccount/email/account_connected": Words(
        "An account was linked", "Your account can now be signed in to with {provider}."
    ),
    "socialaccount/email/account_disconnected": Words(
        "An account was unlinked", "{provider} no longer signs in to your account."
    ),
}


def message(name: str, context: Mapping[str, Any]) -> Message:
    """Raises KeyError for a message that has no words here."""
    words = MESSAGES.get(name) or CHANGES[name]
    return Message(
        subject=words.subject,
        paragraphs=(words.text.format(**{key: str(value) for key, value in context.items()}),),
        button=words.button,
        link=_public(str(context[words.link])) if words.link else "",
        code=str(context[words.code]) if words.code else "",
        notes=(IGNORE,)
        if name in MESSAGES
        else (_origin(context), "If this was not you, choose a new password at once and check your sessions."),
    )


def _public(link: str) -> str:
    """allauth builds links for the host that was asked for, which is whatever the request says."""
    parts = urlsplit(link)
    return urlunsplit((*urlsplit(settings.PUBLIC_URL)[:2], parts.path, parts.query, parts.fragment))


def _origin(context: Mapping[str, Any]) -> str:
    browser = user_agents.named(context["user_agent"])
    return f"It was done with {browser}, from {context['ip']}, on {minute_words(context['timestamp'])} UTC."
