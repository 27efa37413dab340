"""The sign-in page sends a verified domain to its single sign-on; where that is required, no other way is open to members."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from pytest_django import Settings

from gateway_project.lib import crypto
from orgs.errors import Refused
from orgs.models import AuditEvent, Membership, Organization, User
from orgs.services import domains
from orgs.sign_in import SignIn, sign_in_for
from orgs.sso_models import SsoConnection
from tests.actors import World
from tests.orgs.sso_world import Sso, browser, signed_in_as, verified_domain

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture
def sso(world: World) -> Sso:
    """A connection that nobody asks anything: its provider does not exist."""
    connection = SsoConnection.objects.create(
        organization=world.acme,
        kind=SsoConnection.Kind.OIDC,
        name="Acme ID",
        issuer="https://id.acme.example",
        client_id="gatehouse",
        secret_encrypted=crypto.encrypt("secret", bound_to="a row that is not this one"),
        group=world.field,
        enabled=True,
        created_by=world.alice,
    )
    return Sso(world, verified_domain(world.acme, world.alice), connection)


def member(sso: Sso, name: str = "mia") -> User:
    user = sso.member(name)
    user.set_password(PASSWORD)
    user.save()
    return user


def require(sso: Sso) -> None:
    domains.require_sso(sso.domain, True, by=sso.world.actor("alice"))


def try_password(user: User, **form: str) -> Any:
    client = browser()
    answer = client.post("/accounts/login/", {"login": user.email, "password": PASSWORD, **form})
    return client, answer


def test_an_address_is_sent_to_its_domains_provider_whether_or_not_anybody_has_it(sso: Sso) -> None:
    start = f"/sso/{sso.connection.slug}/"
    for address in (sso.address("nobody"), sso.address("NOBODY").upper(), member(sso).email):
        answer = browser().post("/accounts/login/", {"login": address, "next": "/o/acme/"})
        assert answer.headers["location"] == f"{start}?next=%2Fo%2Facme%2F"
    assert sign_in_for("mia@elsewhere.example") == SignIn()
    assert sign_in_for(f"mia@mail.{sso.domain.name}") == SignIn()


def test_only_a_verified_domain_and_a_connection_that_is_on_send_anybody(sso: Sso) -> None:
    assert sign_in_for(sso.address()).slug == sso.connection.slug
    Organization.objects.filter(pk=sso.world.acme.pk).update(frozen_at="2026-01-01T00:00Z")
    assert sign_in_for(sso.address()) == SignIn()
    Organization.objects.filter(pk=sso.world.acme.pk).update(frozen_at=None)
    SsoConnection.objects.filter(pk=sso.connection.pk).update(enabled=False)
    assert sign_in_for(sso.address()) == SignIn()
    SsoConnection.objects.filter(pk=sso.connection.pk).update(enabled=True)
    type(sso.domain).objects.filter(pk=sso.domain.pk).update(verified_at=None)
    assert sign_in_for(sso.address()) == SignIn()


def test_another_way_is_open_while_single_sign_on_is_not_required(sso: Sso) -> None:
    mia = member(sso)
    client, answer = try_password(mia)
    assert answer.headers["location"] == f"/sso/{sso.connection.slug}/"
    assert 'name="here"' in browser().get("/accounts/login/?here=1").content.decode()
    assert 'name="here"' in browser().post("/accounts/login/", {"login": mia.email, "here": "1"}).content.decode()
    client, answer = try_password(mia, here="1")
    assert signed_in_as(client) == mia


def test_where_it_is_required_a_members_password_and_code_open_nothing(sso: Sso) -> None:
    mia = member(sso)
    require(sso)
    client, answer = try_password(mia, here="1")
    assert answer.headers["location"] == f"/sso/{sso.connection.slug}/"
    assert signed_in_as(client) is None
    assert f"Members of {sso.world.acme} sign in here." in client.get(answer.headers["location"]).content.decode()

    client = browser()
    client.post("/accounts/login/code/", {"email": mia.email})
    [code] = re.findall(r"(?m)^[A-Z0-9-]{6,9}$", str(mail.outbox[0].body))
    assert client.post("/accounts/login/code/confirm/", {"code": code}).headers["location"] == f"/sso/{sso.connection.slug}/"
    assert signed_in_as(client) is None


def test_super_admins_keep_a_way_and_each_use_of_it_is_audited(sso: Sso) -> None:
    alice = member(sso, "alice")
    require(sso)
    client, _ = try_password(alice, here="1")
    assert signed_in_as(client) == alice
    event = AuditEvent.objects.get(organization=sso.world.acme, action="sso.bypassed")
    assert (event.actor, event.object_id) == (alice, str(sso.connection.pk))


def test_it_binds_members_only_and_only_while_the_connection_is_on(sso: Sso) -> None:
    stranger = sso.outsider()
    stranger.set_password(PASSWORD)
    stranger.save()
    mia = member(sso)
    require(sso)
    client, _ = try_password(stranger, here="1")
    assert signed_in_as(client) == stranger
    SsoConnection.objects.filter(pk=sso.connection.pk).update(enabled=False)
    client, _ = try_password(mia)
    assert signed_in_as(client) == mia


def test_a_suspended_member_has_no_other_way_either(sso: Sso) -> None:
    mia = member(sso)
    require(sso)
    Membership.objects.filter(user=mia, organization=sso.world.acme).update(suspended_at="2026-01-01T00:00Z")
    client, _ = try_password(mia, here="1")
    assert signed_in_as(client) is None


def test_a_member_does_not_slip_out_by_another_main_address(sso: Sso) -> None:
    mia = sso.member()
    EmailAddress.objects.create(user=mia, email="mia@private.example", verified=True)
    client, asked = browser(mia), {"email": "mia@private.example", "action_primary": ""}
    require(sso)
    assert "single sign-on knows you" in client.post("/accounts/email/", asked, follow=True).content.decode()
    assert User.objects.get(pk=mia.pk).email == mia.email
    Membership.objects.filter(user=mia, organization=sso.world.acme).delete()
    client.post("/accounts/email/", asked)
    assert User.objects.get(pk=mia.pk).email == "mia@private.example"


def test_nobody_takes_an_address_of_the_domain_at_sign_up(sso: Sso, settings: Settings) -> None:
    form = {"email": sso.address("squatter"), "password1": PASSWORD, "password2": PASSWORD}
    require(sso)
    assert "sign in by their organisation" in browser().post("/accounts/signup/", form).content.decode()
    assert not User.objects.filter(email=form["email"]).exists()


def test_requiring_it_ends_the_sessions_of_members_but_not_of_super_admins(sso: Sso) -> None:
    browsers = {}
    for name in ("mia", "alice"):
        browsers[name], _ = try_password(member(sso, name), here="1")
        browsers[name].get("/")
    require(sso)
    assert browsers["mia"].get("/").headers["location"].startswith("/accounts/login/")
    assert browsers["alice"].get("/").headers["location"].startswith("/o/")
    event = AuditEvent.objects.get(organization=sso.world.acme, action="domain.sso_required")
    assert event.after == {"sessions ended": 1}


def test_it_is_required_only_where_it_works(sso: Sso) -> None:
    alice = sso.world.actor("alice")
    SsoConnection.objects.filter(pk=sso.connection.pk).update(enabled=False)
    with pytest.raises(Refused, match="connection on first"):
        domains.require_sso(sso.domain, True, by=alice)
    SsoConnection.objects.filter(pk=sso.connection.pk).update(enabled=True)
    pending = domains.add_domain("pending.example", by=alice)
    with pytest.raises(Refused, match="Verify"):
        domains.require_sso(pending, True, by=alice)
    page = f"/o/{sso.world.acme.slug}/security/domains/"
    switched = browser(sso.world.alice).post(f"{page}{sso.domain.pk}/require/", {"required": "1"}, follow=True).content.decode()
    assert "Single sign-on only" in switched
    switched = browser(sso.world.alice).post(f"{page}{sso.domain.pk}/require/", {"required": "0"}, follow=True).content.decode()
    assert "Single sign-on only" not in switched
