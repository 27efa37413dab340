"""What the page of a connection shows: its state in words, and the values to copy."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import QuerySet
from django.urls import reverse

from orgs.models import Organization
from orgs.sso import oidc
from orgs.sso_models import Domain, SsoConnection


class Value(NamedTuple):
    """To be pasted into the identity provider. `id` is unique on the page."""

    id: str
    label: str
    text: str
    hint: str = ""


class Step(NamedTuple):
    title: str
    done: bool


def connections_of(organization: Organization) -> QuerySet[SsoConnection]:
    """The one in use first."""
    found = SsoConnection.objects.filter(organization=organization).select_related("group")
    return found.order_by("-enabled", "name", "pk")


def connection_in_use(organization: Organization) -> SsoConnection | None:
    return SsoConnection.objects.filter(organization=organization, enabled=True).first()


def domains_of(organization: Organization) -> QuerySet[Domain]:
    return Domain.objects.filter(organization=organization).order_by("name")


def verified_domains_of(organization: Organization) -> QuerySet[Domain]:
    return domains_of(organization).filter(verified_at__isnull=False)


def connection_page(connection: SsoConnection) -> dict[str, Any]:
    domains = list(verified_domains_of(connection.organization))
    return {
        "connection": connection,
        "values": values_of(connection),
        "steps": [
            Step("A verified domain", bool(domains)),
            Step("Values exchanged", connection.is_configured),
            Step("Tested", bool(connection.test_passed)),
            Step("On", connection.enabled),
        ],
        "domains": domains,
        "people": connection.identities.count(),
        "others": SsoConnection.objects.filter(organization=connection.organization, enabled=True).exclude(pk=connection.pk),
        "sign_in_url": settings.PUBLIC_URL + reverse("sso:start", kwargs={"slug": connection.slug}),
    }


def values_of(connection: SsoConnection) -> list[Value]:
    if connection.kind == SsoConnection.Kind.OIDC:
        uri = Value("redirect-uri", "Redirect URI", oidc.redirect_uri(connection), "Also called callback or reply URL.")
        return [uri, Value("scopes", "Scopes", oidc.SCOPE)]
    # Without the SAML libraries, which this page does not need: see orgs/sso/saml.py.
    acs, entity = (settings.PUBLIC_URL + reverse(f"sso:{name}", kwargs={"slug": connection.slug}) for name in ("acs", "metadata"))
    return [
        Value("acs-url", "ACS URL", acs, "Also called reply URL, single sign-on URL or recipient; binding HTTP-POST."),
        Value("entity-id", "Entity ID", entity, "Also called audience or identifier. Our metadata lies at this address."),
    ]
