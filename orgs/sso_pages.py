"""What the page of a connection shows: its state in words, and the values to copy."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.urls import reverse

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


def connection_page(connection: SsoConnection) -> dict[str, Any]:
    domains = list(Domain.objects.filter(organization=connection.organization, verified_at__isnull=False).order_by("name"))
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
