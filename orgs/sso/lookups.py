"""The ways to connections and domains: by their ids for whoever manages them, by its public name for a browser that signs in."""

from __future__ import annotations

from django.http import Http404

from gateway_project.lib.rows import sole
from orgs.actor import LINEAGE, Actor
from orgs.permissions import Permission
from orgs.sso_models import Domain, SsoConnection, SsoIdentity


def access_connection_by_slug(slug: str, kind: SsoConnection.Kind | None = None) -> SsoConnection:
    """One that is configured, and speaks `kind`: nobody is known yet. Raises Http404."""
    found = SsoConnection.objects.filter(slug=slug).select_related("organization", "group").first()
    if found is None or not found.is_configured or (kind and found.kind != kind):
        raise Http404("no such single sign-on")
    return found


def access_connection_by_id(actor: Actor, connection_id: int) -> SsoConnection:
    """Raises Http404."""
    actor.require_everywhere(Permission.MANAGE_SETTINGS)
    found = SsoConnection.objects.filter(organization=actor.organization, pk=connection_id)
    connection = sole(found.select_related("organization", "created_by", LINEAGE))
    if connection is None:
        raise Http404("no such connection")
    return connection


def access_identity_by_id(connection: SsoConnection, identity_id: int) -> SsoIdentity:
    """One of a connection that was loaded for its actor. Raises Http404."""
    identity = connection.identities.select_related("user").filter(pk=identity_id).first()
    if identity is None:
        raise Http404("no such identity")
    return identity


def access_domain_by_id(actor: Actor, domain_id: int) -> Domain:
    """Raises Http404."""
    actor.require_everywhere(Permission.MANAGE_SETTINGS)
    domain = Domain.objects.filter(organization=actor.organization, pk=domain_id).select_related("organization").first()
    if domain is None:
        raise Http404("no such domain")
    return domain
