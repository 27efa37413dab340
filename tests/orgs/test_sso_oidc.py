"""Single sign-on by OpenID Connect, against a provider that runs on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.cache import cache
from pytest_django import Settings

from gateway_project.lib import addresses
from orgs.models import AuditEvent, Group, Membership, Organization, User
from orgs.services import sso as services
from orgs.sso_models import SsoIdentity
from tests.actors import World
from tests.orgs.oidc_provider import OidcProvider, running_provider, somebody
from tests.orgs.sso_world import Sso, at_provider, browser, oidc_sso, signed_in_as

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def providers_on_this_machine(settings: Settings) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = addresses.networks("127.0.0.0/8")


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    with running_provider() as found:
        yield found


@pytest.fixture
def sso(world: World, provider: OidcProvider) -> Sso:
    made = oidc_sso(world, provider)
    provider.person = somebody(made.address("newcomer"))
    return made


def sign_in(sso: Sso, client: Any = None, **form: str) -> Any:
    client = client or browser()
    return client.get(at_provider(sso.begin(client, **form)))


def refused(sso: Sso, client: Any = None) -> str:
    """Why nobody is signed in."""
    client = client or browser()
    before, people = signed_in_as(client), User.objects.count()
    answer = client.get(at_provider(sso.begin(client)))
    assert answer.status_code in (403, 502), answer.status_code
    assert signed_in_as(client) == before
    assert User.objects.count() == people
    page: str = answer.content.decode()
    return page.partition('role="alert">')[2].partition("</p>")[0]


# --- people ------------------------------------------------------------------------------------
def test_who_comes_first_gets_an_account_and_a_membership_in_the_group_and_no_role(sso: Sso) -> None:
    client = browser()

    answer = sign_in(sso, client)

    user = User.objects.get(email=sso.address("newcomer"))
    assert (answer.status_code, answer.headers["location"]) == (302, "/")
    assert signed_in_as(client) == user
    assert (user.name, user.has_usable_password()) == ("Mia Moss", False)
    membership = Membership.objects.get(user=user, organization=sso.world.acme)
    assert membership.group == sso.world.field
    assert not user.grants.filter(organization=sso.world.acme).exists()
    assert Organization.objects.filter(kind="personal", memberships__user=user).count() == 1
    actions = AuditEvent.objects.filter(organization=sso.world.acme, actor=user).values_list("action", flat=True)
    assert set(actions) == {"member.joined_by_sso", "sso.connected"}
    events = AuditEvent.objects.filter(organization=sso.world.acme, actor=user)
    [ip] = set(events.values_list("ip", flat=True))
    assert ip is not None
    page = f"/o/{sso.world.acme.slug}/members/{user.pk}/history/"
    [row] = browser(sso.world.alice).get(page).context["rows"]
    assert (row.words, row.by) == ("joined by single sign-on", "")


def test_the_next_time_the_same_person_has_the_same_account_whatever_its_address_is_now(sso: Sso, provider: OidcProvider) -> None:
    sign_in(sso)
    user = User.objects.get(email=sso.address("newcomer"))
    provider.person["email"] = sso.address("married")
    client = browser()

    sign_in(sso, client)

    assert signed_in_as(client) == user
    assert SsoIdentity.objects.filter(user=user).count() == 1


def test_one_lands_where_one_wanted_to_go(sso: Sso) -> None:
    answer = sign_in(sso, next="/o/acme/keys/?sort=name")
    assert answer.headers["location"] == "/o/acme/keys/?sort=name"


def test_no_sign_in_leads_elsewhere(sso: Sso) -> None:
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "keys/"):
        assert sign_in(sso, next=elsewhere).headers["location"] == "/"


def test_a_members_account_is_connected(sso: Sso, provider: OidcProvider) -> None:
    mia = sso.member("mia")
    mia.set_password("correct horse battery staple")
    mia.save()
    provider.person = somebody(sso.address("mia").title())
    client = browser()

    sign_in(sso, client)

    assert signed_in_as(client) == mia
    assert User.objects.get(pk=mia.pk).has_usable_password()
    assert [one.group for one in Membership.objects.filter(user=mia, organization=sso.world.acme)] == [sso.world.gateway]


def test_an_account_whose_address_nobody_confirmed_loses_what_somebody_else_may_have_set(
    sso: Sso, provider: OidcProvider
) -> None:
    mia = sso.member("mia", verified=False)
    mia.set_password("a squatter's password")
    mia.save()
    EmailAddress.objects.create(user=mia, email=f"squatter@{sso.world.acme.slug}.example", verified=True)
    squatter = browser()
    squatter.post("/accounts/login/", {"login": mia.email, "password": "a squatter's password", "here": "1"})
    assert signed_in_as(squatter) == mia
    squatter.get("/")
    provider.person = somebody(sso.address("mia"))
    client = browser()

    sign_in(sso, client)

    assert signed_in_as(client) == mia
    assert not User.objects.get(pk=mia.pk).has_usable_password()
    assert [one.email for one in EmailAddress.objects.filter(user=mia)] == [mia.email]
    assert squatter.get("/").headers["location"].startswith("/accounts/login/")


def test_an_account_that_is_no_member_is_connected_only_by_who_is_signed_in_to_it(sso: Sso, provider: OidcProvider) -> None:
    eve = sso.outsider()
    provider.person = somebody(eve.email)

    assert "has an account here already" in refused(sso)
    assert not Membership.objects.filter(user=eve, organization=sso.world.acme).exists()

    client = browser(eve)
    sign_in(sso, client)
    assert signed_in_as(client) == eve
    assert Membership.objects.get(user=eve, organization=sso.world.acme).group == sso.world.field


def test_a_super_admins_account_is_connected_only_by_who_is_signed_in_to_it(sso: Sso, provider: OidcProvider) -> None:
    alice = sso.member("alice")
    provider.person = somebody(alice.email)
    assert "has an account here already" in refused(sso)
    sign_in(sso, browser(alice))
    client = browser()
    sign_in(sso, client)
    assert signed_in_as(client) == alice


def test_somebody_elses_session_is_no_proof_and_is_ended(sso: Sso, provider: OidcProvider) -> None:
    noah, alice = sso.world.noah, sso.member("alice")
    provider.person = somebody(alice.email)
    assert "has an account here already" in refused(sso, browser(noah))
    provider.person = somebody(sso.address("newcomer"))
    client = browser(noah)
    sign_in(sso, client)
    assert signed_in_as(client) == User.objects.get(email=sso.address("newcomer"))


# --- whom a tenant's provider does not sign in -------------------------------------------------
def test_an_address_of_another_domain_is_refused(sso: Sso, provider: OidcProvider) -> None:
    for address in (sso.world.mia.email, f"mia@mail.{sso.domain.name}", f"mia@{sso.domain.name}.evil.example"):
        provider.person = somebody(address)
        assert "is not in a domain that" in refused(sso)


def test_an_address_that_is_none_or_that_the_provider_denies_is_refused(sso: Sso, provider: OidcProvider) -> None:
    for address in (None, "", 7, "mia", "mia@", f"mia@{'x' * 300}.example", "a b@c.example"):
        provider.person = {**somebody(""), "email": address}
        assert "sent no e-mail address" in refused(sso)
    for denial in (False, "false"):
        provider.person = somebody(sso.address("newcomer"), email_verified=denial)
        assert "is not verified" in refused(sso)


def test_a_domain_that_is_not_verified_any_more_counts_for_nothing(sso: Sso) -> None:
    sign_in(sso)
    sso.domain.verified_at = None
    sso.domain.save()
    assert "is not in a domain that" in refused(sso)


def test_another_organisations_domain_counts_for_nothing(sso: Sso, provider: OidcProvider) -> None:
    """Nor does its members' account open, whatever the provider of this one says."""
    charlie = sso.member("charlie")
    sso.domain.organization = sso.world.other
    sso.domain.save()
    provider.person = somebody(charlie.email)
    assert "is not in a domain that" in refused(sso)


def test_an_account_that_moved_to_another_address_is_not_opened(sso: Sso) -> None:
    sign_in(sso)
    User.objects.filter(email=sso.address("newcomer")).update(email="newcomer@elsewhere.example")
    assert "The account" in refused(sso)


def test_an_operators_account_is_never_opened(sso: Sso, provider: OidcProvider) -> None:
    mia = sso.member("mia")
    provider.person = somebody(mia.email)
    for staff in (True, False):
        User.objects.filter(pk=mia.pk).update(is_staff=staff, is_superuser=not staff)
        assert "An operator" in refused(sso)
        assert "An operator" in refused(sso, browser(User.objects.get(pk=mia.pk)))


def test_a_second_person_does_not_get_a_connected_account(sso: Sso, provider: OidcProvider) -> None:
    """Who may change the own address at the provider would otherwise become somebody else."""
    sign_in(sso)
    provider.person = somebody(sso.address("newcomer"))
    assert "is connected to another person" in refused(sso)


def test_a_suspended_member_and_a_removed_one_stay_out(sso: Sso) -> None:
    sign_in(sso)
    memberships = Membership.objects.filter(user__email=sso.address("newcomer"), organization=sso.world.acme)
    memberships.update(suspended_at="2026-01-01T00:00Z")
    assert "suspended" in refused(sso)
    memberships.delete()
    assert "no member any more" in refused(sso)


def test_a_member_suspended_before_the_first_time_stays_out(sso: Sso, provider: OidcProvider) -> None:
    mia = sso.member("mia")
    Membership.objects.filter(user=mia, organization=sso.world.acme).update(suspended_at="2026-01-01T00:00Z")
    provider.person = somebody(mia.email)
    assert "suspended" in refused(sso)


def test_an_inactive_account_is_not_signed_in(sso: Sso) -> None:
    sign_in(sso)
    User.objects.filter(email=sso.address("newcomer")).update(is_active=False)
    client = browser()
    assert sign_in(sso, client).headers["location"] == "/accounts/inactive/"
    assert signed_in_as(client) is None


def test_nobody_new_joins_against_the_switch_without_a_group_or_in_a_freeze(sso: Sso) -> None:
    sso.change(admits_new=False)
    assert "by invitation only" in refused(sso)
    sso.change(admits_new=True)
    Group.objects.filter(pk=sso.world.field.pk).update(archived_at="2026-01-01T00:00Z")
    assert "archived" in refused(sso)
    Organization.objects.filter(pk=sso.world.acme.pk).update(frozen_at="2026-01-01T00:00Z")
    assert browser().get(f"/sso/{sso.connection.slug}/").status_code == 404


# --- the connection ----------------------------------------------------------------------------
def test_a_connection_that_is_off_does_not_exist(sso: Sso, provider: OidcProvider) -> None:
    client = browser()
    back = at_provider(sso.begin(client))
    services.set_enabled(sso.connection, False, by=sso.world.actor("alice"))
    assert client.get(back).status_code == 404
    assert client.get(f"/sso/{sso.connection.slug}/").status_code == 404
    assert signed_in_as(client) is None


def test_an_answer_for_one_connection_is_none_for_another(sso: Sso, provider: OidcProvider) -> None:
    with running_provider() as second:
        other = oidc_sso(sso.world, second)
        services.set_enabled(sso.connection, True, by=sso.world.actor("alice"))
        client = browser()
        back = at_provider(sso.begin(client)).replace(sso.connection.slug, other.connection.slug)
    assert client.get(back).status_code == 403
    assert signed_in_as(client) is None


def test_an_answer_is_taken_once_and_only_where_it_was_asked_for(sso: Sso) -> None:
    client = browser()
    back = at_provider(sso.begin(client))
    assert browser().get(back).status_code == 403
    assert client.get(f"/sso/{sso.connection.slug}/callback/?state=%C3%A9&code=x").status_code == 403
    assert client.get(back).status_code == 302
    client.post("/accounts/logout/")
    assert client.get(back).status_code == 403
    assert signed_in_as(client) is None


def test_an_answer_to_no_question_is_refused(sso: Sso) -> None:
    for query in ("", "?state=", "?code=x", "?state=unknown&code=x", "?state=" + "x" * 5000):
        assert browser().get(f"/sso/{sso.connection.slug}/callback/{query}").status_code == 403


def test_a_refusal_at_the_provider_is_told(sso: Sso) -> None:
    client = browser()
    state = at_provider(sso.begin(client)).split("state=")[1].split("&")[0]
    answer = client.get(f"/sso/{sso.connection.slug}/callback/?state={state}&error=access_denied&error_description=<b>")
    assert answer.status_code == 403
    assert "Acme ID did not sign you in." in answer.content.decode()


def test_a_link_alone_sends_nobody_away(sso: Sso) -> None:
    page = browser().get(f"/sso/{sso.connection.slug}/?next=/o/acme/").content.decode()
    assert "http-equiv" not in page
    assert "Continue with Acme ID" in page


# --- ID tokens ---------------------------------------------------------------------------------
TOKENS: list[tuple[dict[str, Any], str]] = [
    ({"aud": "another client"}, "InvalidAudienceError"),
    ({"aud": ["gatehouse at acme", "another"], "azp": "another"}, "another client"),
    ({"iss": "https://evil.example"}, "InvalidIssuerError"),
    ({"exp": int(time.time()) - 3600}, "ExpiredSignatureError"),
    ({"iat": int(time.time()) + 3600}, "ImmatureSignatureError"),
    ({"nonce": "of another sign-in"}, "another sign-in"),
    ({"nonce": None}, "another sign-in"),
    ({"sub": ""}, "names nobody"),
    ({"sub": "x" * 600}, "names nobody"),
    ({"exp": None}, "MissingRequiredClaimError"),
]


def test_a_token_that_is_not_for_this_sign_in_is_refused(sso: Sso, provider: OidcProvider) -> None:
    for claims, told in TOKENS:
        provider.claims = claims
        assert told in refused(sso), told


def test_a_token_signed_by_another_key_is_refused(sso: Sso, provider: OidcProvider) -> None:
    provider.signed_by = ec.generate_private_key(ec.SECP256R1())
    assert "InvalidSignatureError" in refused(sso)


def test_a_new_key_of_the_provider_is_found(sso: Sso, provider: OidcProvider) -> None:
    sign_in(sso)
    provider.key = provider.signed_by = ec.generate_private_key(ec.SECP256R1())
    provider.kid = "two"
    client = browser()
    sign_in(sso, client)
    assert signed_in_as(client) is not None


def test_an_address_may_be_told_beside_the_token(sso: Sso, provider: OidcProvider) -> None:
    provider.email_in_userinfo_only = True
    client = browser()
    sign_in(sso, client)
    assert signed_in_as(client) == User.objects.get(email=sso.address("newcomer"))


def test_a_provider_that_is_gone_is_told(sso: Sso, provider: OidcProvider) -> None:
    provider.document = {"token_endpoint": "http://127.0.0.1:1/token"}
    cache.delete(f"sso:{sso.connection.pk}:document")
    assert "127.0.0.1:1 cannot be reached" in refused(sso)


def test_the_secret_is_refused_in_words(sso: Sso, provider: OidcProvider) -> None:
    alice = sso.world.actor("alice")
    services.configure_oidc(sso.connection, issuer=provider.url, client_id="gatehouse at acme", secret="wrong", by=alice)
    assert "HTTP 401 (invalid_client)" in refused(sso)
