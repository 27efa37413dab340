"""What the tests of single sign-on share: an organisation with a verified domain and connections, and a browser."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.test import Client
from django.utils import timezone

from orgs.models import Organization, User
from orgs.services import sso as services
from orgs.services.sso import Use
from orgs.sso import oidc
from orgs.sso.lookups import access_connection_by_id
from orgs.sso_models import Domain, SsoConnection
from tests.actors import World, make_user
from tests.orgs.oidc_provider import CLIENT_ID, SECRET, OidcProvider

GOES_TO = re.compile(r'http-equiv="refresh" content="0;url=([^"]+)"')


def browser(user: User | None = None) -> Client:
    """From an address of its own: sign-in is limited by address, and the counters outlive a test."""
    client = Client(REMOTE_ADDR=str(ipaddress.IPv6Address(secrets.randbits(128))))
    if user is not None:
        client.force_login(user)
    return client


def verified_domain(organization: Organization, user: User, name: str = "", **facts: Any) -> Domain:
    name = name or f"{secrets.token_hex(6)}.example"
    return Domain.objects.create(
        organization=organization, name=name, created_by=user, verified_at=timezone.now(), proof=Domain.Proof.DNS, **facts
    )


@dataclass
class Sso:
    """Acme with the domain `domain` and one connection, which is on."""

    world: World
    domain: Domain
    connection: SsoConnection

    def address(self, name: str = "mia") -> str:
        return f"{name}@{self.domain.name}"

    def member(self, name: str = "mia", **facts: Any) -> User:
        """Somebody of the world, with an address in the domain, confirmed unless told otherwise."""
        from allauth.account.models import EmailAddress

        user: User = getattr(self.world, name)
        User.objects.filter(pk=user.pk).update(email=self.address(name))
        user.refresh_from_db()
        EmailAddress.objects.create(user=user, email=user.email, primary=True, **{"verified": True, **facts})
        return user

    def outsider(self, name: str = "eve") -> User:
        return make_user(self.address(name))

    def change(self, **use: Any) -> None:
        found = access_connection_by_id(self.world.actor("alice"), self.connection.pk)
        kept = {"group": found.group, "admits_new": found.admits_new, "idp_initiated": found.idp_initiated}
        services.change_use(found, name=found.name, use=Use(**{**kept, **use}), by=self.world.actor("alice"))

    def begin(self, client: Client, **form: str) -> str:
        """Presses the button; the address at the provider that the browser goes to by itself."""
        start = f"/sso/{self.connection.slug}/"
        assert client.post(start, form).headers["location"] == start
        page = client.get(start).content.decode()
        found = GOES_TO.search(page)
        assert found, page
        return unescape(found[1])


def oidc_sso(world: World, provider: OidcProvider, *, on: bool = True) -> Sso:
    alice = world.actor("alice")
    domain = verified_domain(world.acme, world.alice)
    made = services.create_connection(SsoConnection.Kind.OIDC, name="Acme ID", group=world.field, admits_new=True, by=alice)
    services.configure_oidc(made, issuer=provider.url, client_id=CLIENT_ID, secret=SECRET, by=alice)
    connection = services.set_enabled(made, True, by=alice) if on else made
    connection.refresh_from_db()
    provider.redirect_uri = oidc.redirect_uri(connection)
    return Sso(world, domain, connection)


def at_provider(url: str) -> str:
    """What the provider, where the person is signed in, sends the browser back to: a path here."""
    answer = httpx.get(url)
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["location"])
    return f"{back.path}?{back.query}"


def signed_in_as(client: Client) -> User | None:
    key = client.session.get("_auth_user_id")
    return User.objects.get(pk=key) if key else None
