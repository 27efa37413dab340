"""Connections to identity providers: made, told what the provider gives, tested, switched, deleted. The client secret is sealed
with the key ring and never shown; it is only ever sent to the issuer that it was entered for."""

from __future__ import annotations

from typing import NamedTuple

from django.utils import timezone

from gateway_project.lib import crypto, outbound
from orgs.actor import ABOVE, Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Group, Organization
from orgs.powers import require_everything
from orgs.services.changes import changing, clean_name, refuse_archived
from orgs.sso import oidc, protocols
from orgs.sso.errors import SsoFailed
from orgs.sso.fetching import fetch
from orgs.sso_models import URL_LENGTH, Domain, SsoConnection, SsoIdentity

MOST_CONNECTIONS = 10
MOST_SECRET = 2000
MOST_METADATA = 500_000
RESULT_LENGTH = 300


class Use(NamedTuple):
    """Who joins by a connection, and where."""

    group: Group
    admits_new: bool
    idp_initiated: bool = False


def create_connection(kind: SsoConnection.Kind, *, name: str, group: Group, admits_new: bool, by: Actor) -> SsoConnection:
    """Off, and not configured yet: its addresses are what the provider is told first. Raises Refused, NotAllowed."""
    name = clean_name(name)
    with changing(by.organization):
        _require(by)
        if by.organization.kind == Organization.Kind.PERSONAL:
            raise Refused("A personal account has no single sign-on: create an organisation first.")
        if SsoConnection.objects.filter(organization=by.organization).count() >= MOST_CONNECTIONS:
            raise Refused(f"An organisation has at most {MOST_CONNECTIONS} connections.")
        connection = SsoConnection.objects.create(
            organization=by.organization,
            kind=kind,
            name=name,
            group=_own_group(group, by=by),
            admits_new=admits_new,
            created_by=by.user,
        )
        audit("sso.created", by=by, target=connection, after=_facts(connection))
    return connection


def configure_oidc(connection: SsoConnection, *, issuer: str, client_id: str, secret: str, by: Actor) -> SsoConnection:
    """Asks the issuer first. An empty secret stays what it is, unless the issuer is another one. Raises Refused, NotAllowed."""
    issuer, client_id, secret = issuer.strip(), client_id.strip(), secret.strip()
    if not client_id.isprintable() or not client_id:
        raise Refused("Give the client id as the provider shows it.", field="client_id")
    if len(secret) > MOST_SECRET or not secret.isprintable():
        raise Refused("Give the client secret as the provider has shown it.", field="secret")
    issuer = _asked_issuer(issuer)
    with changing(by.organization):
        fresh = _as_seen(connection, by=by)
        if not secret and (issuer != fresh.issuer or not fresh.secret_encrypted):
            raise Refused("Give the client secret, too: it is only ever sent to the issuer it was entered for.", field="secret")
        before = _facts(fresh)
        _forget_people_of_another(fresh, issuer)
        fresh.issuer, fresh.client_id = issuer, client_id
        if secret:
            fresh.secret_encrypted = crypto.encrypt(secret, bound_to=fresh.secret_bound_to)
        _save_untested(fresh)
        replaced: dict[str, Value] = {"secret replaced": bool(secret)}
        audit("sso.configured", by=by, target=fresh, before=before, after=_facts(fresh) | replaced)
    oidc.forget(fresh)
    return fresh


def configure_saml(connection: SsoConnection, *, metadata_url: str, metadata: str, by: Actor) -> SsoConnection:
    """By the provider's metadata, read from a URL or pasted. Raises Refused, NotAllowed."""
    from orgs.sso import saml

    metadata_url = metadata_url.strip()
    field = "metadata_url" if metadata_url else "metadata"
    try:
        found = saml.read_metadata(_read(metadata_url) if metadata_url else metadata.strip().encode()[:MOST_METADATA])
    except SsoFailed as failed:
        raise Refused(failed.message, field=field) from failed
    with changing(by.organization):
        fresh = _as_seen(connection, by=by)
        before = _facts(fresh)
        _forget_people_of_another(fresh, found.entity_id)
        fresh.issuer, fresh.sso_url, fresh.certificates = found
        fresh.metadata_url, fresh.metadata_read_at = metadata_url, timezone.now() if metadata_url else None
        _save_untested(fresh)
        audit("sso.configured", by=by, target=fresh, before=before, after=_facts(fresh))
    return fresh


def change_use(connection: SsoConnection, *, name: str, use: Use, by: Actor) -> SsoConnection:
    """Raises Refused, NotAllowed."""
    name = clean_name(name)
    with changing(by.organization):
        fresh = _fresh(connection, by=by)
        before = _facts(fresh)
        fresh.name, fresh.group = name, _own_group(use.group, by=by)
        fresh.admits_new = use.admits_new
        fresh.idp_initiated = use.idp_initiated and fresh.kind == SsoConnection.Kind.SAML
        if _facts(fresh) != before:
            fresh.save()
            audit("sso.changed", by=by, target=fresh, before=before, after=_facts(fresh))
    return fresh


def test_connection(connection: SsoConnection, *, by: Actor) -> SsoConnection:
    """Raises Refused, NotAllowed."""
    _require(by)
    result = protocols.probe(connection)
    with changing(by.organization):
        fresh = _fresh(connection, by=by)
        fresh.tested_at, fresh.test_passed, fresh.test_result = timezone.now(), result.passed, result.text[:RESULT_LENGTH]
        fresh.save(update_fields=["tested_at", "test_passed", "test_result"])
        audit("sso.tested", by=by, target=fresh, after={"passed": result.passed, "result": fresh.test_result})
    return fresh


def set_enabled(connection: SsoConnection, enabled: bool, *, by: Actor) -> SsoConnection:
    """Turning one on turns another one off. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(connection, by=by)
        if enabled and not fresh.is_configured:
            raise Refused("Enter first what the identity provider gives you.")
        if enabled and not Domain.objects.filter(organization=by.organization, verified_at__isnull=False).exists():
            raise Refused("Verify a domain first: only its addresses are sent to single sign-on.")
        if fresh.enabled != enabled:
            for other in SsoConnection.objects.filter(organization=by.organization, enabled=True) if enabled else ():
                _switch(other, False, by=by)
            _switch(fresh, enabled, by=by)
    return fresh


def disconnect(identity: SsoIdentity, *, by: Actor) -> None:
    """The person's next sign-in is judged as a first one. Raises Refused, NotAllowed."""
    with changing(by.organization):
        _require(by)
        found = SsoIdentity.objects.filter(pk=identity.pk, connection__organization=by.organization).first()
        if found is None:
            raise Refused("This person is not connected any more.")
        audit("sso.disconnected", by=by, target=found, before={"user": found.user_id})
        found.delete()


def delete_connection(connection: SsoConnection, *, by: Actor) -> None:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(connection, by=by)
        audit("sso.deleted", by=by, target=fresh, before=_facts(fresh) | {"people": fresh.identities.count()})
        fresh.delete()


def _switch(connection: SsoConnection, enabled: bool, *, by: Actor) -> None:
    connection.enabled = enabled
    connection.save(update_fields=["enabled"])
    audit(f"sso.{'enabled' if enabled else 'disabled'}", by=by, target=connection)


def _asked_issuer(issuer: str) -> str:
    """As the issuer itself spells it, or its tokens would not be believed. Raises Refused."""
    wrong = outbound.why_not(issuer) if issuer else "Give the issuer."
    if wrong or len(issuer) > URL_LENGTH:
        raise Refused(wrong or "This issuer is too long.", field="issuer")
    try:
        found: str = oidc.discover(issuer)["issuer"]
    except SsoFailed as failed:
        raise Refused(failed.message, field="issuer") from failed
    return found


def _read(url: str) -> bytes:
    """Raises Refused, SsoFailed."""
    wrong = outbound.why_not(url.partition("?")[0])
    if wrong or len(url) > URL_LENGTH or not url.isprintable():
        raise Refused(wrong or "This is not a URL.", field="metadata_url")
    return fetch(url)


def _forget_people_of_another(connection: SsoConnection, issuer: str) -> None:
    """Another provider's ids are other people's: nobody may come in by one that happens to be the same."""
    if connection.issuer and connection.issuer != issuer:
        connection.identities.all().delete()


def _save_untested(connection: SsoConnection) -> None:
    connection.tested_at, connection.test_passed, connection.test_result = None, None, ""
    connection.save()


def _own_group(group: Group, *, by: Actor) -> Group:
    fresh: Group | None = Group.objects.filter(pk=group.pk, organization=by.organization).select_related(ABOVE).first()
    if fresh is None:
        raise Refused("There is no such group any more.", field="group")
    refuse_archived(fresh)
    return fresh


def _fresh(connection: SsoConnection, *, by: Actor) -> SsoConnection:
    _require(by)
    fresh = SsoConnection.objects.filter(pk=connection.pk, organization=by.organization).select_related("organization", "group")
    found = fresh.first()
    if found is None:
        raise Refused("There is no such connection any more.")
    return found


def _as_seen(connection: SsoConnection, *, by: Actor) -> SsoConnection:
    """While the provider was asked, nobody holds the connection: somebody else may have configured it. Raises Refused."""
    fresh = _fresh(connection, by=by)
    if any(getattr(fresh, name) != getattr(connection, name) for name in ("issuer", "client_id", "metadata_url", "sso_url")):
        raise Refused("Somebody has changed this connection meanwhile. Nothing was saved: look at it before you save again.")
    return fresh


def _require(by: Actor) -> None:
    require_everything(by)


def _facts(connection: SsoConnection) -> dict[str, Value]:
    """For the audit trail. Of the secret nothing."""
    return {
        "name": connection.name,
        "kind": connection.kind,
        "issuer": connection.issuer,
        "client id": connection.client_id,
        "metadata URL": connection.metadata_url,
        "sign-in page": connection.sso_url,
        "certificates": len(connection.certificates),
        "group": connection.group.name,
        "admits new people": connection.admits_new,
        "provider may begin": connection.idp_initiated,
    }
