"""The two protocols behind one door: where to send a browser, and whether an identity provider works."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from django.contrib.sessions.backends.base import SessionBase
from django.utils import timezone

from gateway_project.lib.formatting import day_words
from orgs.sso import oidc
from orgs.sso.attempts import Attempt, Intent, new_secret, remember
from orgs.sso.errors import SsoFailed
from orgs.sso.fetching import fetch
from orgs.sso_models import SsoConnection

# Metadata by URL is read again before a sign-in when it is older: certificates change.
METADATA_AGE = timedelta(hours=12)


class Probe(NamedTuple):
    passed: bool
    text: str


def begin(connection: SsoConnection, session: SessionBase, intent: Intent) -> str:
    """The address at the identity provider to send the browser to. Raises SsoFailed."""
    begun = _begin_oidc if connection.kind == SsoConnection.Kind.OIDC else _begin_saml
    return begun(connection, session, intent)


def probe(connection: SsoConnection) -> Probe:
    """Without a person: is the provider there, and does it say what is needed?"""
    asked: Callable[[SsoConnection], str] = _probe_oidc if connection.kind == SsoConnection.Kind.OIDC else _probe_saml
    if not connection.is_configured:
        return Probe(False, "Enter first what the identity provider gives you.")
    try:
        return Probe(True, asked(connection))
    except SsoFailed as failed:
        return Probe(False, failed.message)


def refresh_metadata(connection: SsoConnection) -> bool:
    """Reads the metadata again, for the same provider; true where that has changed something. Raises SsoFailed."""
    from orgs.sso import saml

    found = saml.read_metadata(fetch(connection.metadata_url))
    if found.entity_id != connection.issuer:
        raise SsoFailed("The metadata is now about another identity provider. Enter it anew if that is right.")
    changed = (found.sso_url, found.certificates) != (connection.sso_url, connection.certificates)
    connection.sso_url, connection.certificates = found.sso_url, found.certificates
    connection.metadata_read_at = timezone.now()
    connection.save(update_fields=["sso_url", "certificates", "metadata_read_at"])
    return changed


def _begin_oidc(connection: SsoConnection, session: SessionBase, intent: Intent) -> str:
    state, nonce, verifier = new_secret(), new_secret(), new_secret()
    url = oidc.authorization_url(connection, state=state, nonce=nonce, verifier=verifier, email=intent.email)
    remember(session, Attempt(connection.slug, state, intent.next, intent.trial, nonce, verifier))
    return url


def _begin_saml(connection: SsoConnection, session: SessionBase, intent: Intent) -> str:
    # Imported here: see orgs/sso/saml.py.
    from orgs.sso import saml

    read = connection.metadata_read_at
    if connection.metadata_url and (read is None or timezone.now() - read > METADATA_AGE):
        _refreshed_if_possible(connection)
    url, request_id = saml.request_url(connection, state=new_secret())
    remember(session, Attempt(connection.slug, request_id, intent.next, intent.trial))
    return url


def _refreshed_if_possible(connection: SsoConnection) -> None:
    """What is known already serves on where the provider's metadata cannot be read."""
    try:
        refresh_metadata(connection)
    except SsoFailed:
        connection.metadata_read_at = timezone.now()
        connection.save(update_fields=["metadata_read_at"])


def _probe_oidc(connection: SsoConnection) -> str:
    oidc.forget(connection)
    found = oidc.published_keys(oidc.discover(connection.issuer))
    return f"The issuer answers and publishes {len(found)} signing key{'' if len(found) == 1 else 's'}."


def _probe_saml(connection: SsoConnection) -> str:
    from orgs.sso import saml

    if connection.metadata_url:
        refresh_metadata(connection)
    ends = max(saml.certificate_of(one).not_valid_after_utc for one in connection.certificates)
    if ends <= timezone.now():
        raise SsoFailed(f"The provider's signing certificate ended on {day_words(ends)}.")
    source = "The metadata was read again" if connection.metadata_url else "The metadata is complete"
    return f"{source}; the signing certificate is valid until {day_words(ends)}."
