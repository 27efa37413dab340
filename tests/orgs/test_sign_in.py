"""Sign-up, sign-in, the way home and the organisation switcher, through the pages."""

import ipaddress
import secrets

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from django.contrib.messages import get_messages
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.test import Client, RequestFactory
from pytest_django import Settings

from gateway_project.mail import CONSOLE
from orgs.actor import Actor
from orgs.adapters import SocialAccountAdapter
from orgs.models import Membership, Organization, User
from orgs.services.members import add_member
from orgs.services.organizations import create_organization
from tests.actors import World, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.orgs.door_urls")]
PASSWORD = "correct horse battery staple"


def browser() -> Client:
    """From an address of its own: sign-in is limited by address, and the counters outlive a test."""
    return Client(REMOTE_ADDR=str(ipaddress.IPv6Address(secrets.randbits(128))))


def address(name: str) -> str:
    return f"{name}.{secrets.token_hex(4)}@example.test"


def sign_up(client: Client, email: str) -> User:
    response = client.post("/accounts/signup/", {"email": email, "password1": PASSWORD, "password2": PASSWORD})
    assert response.status_code == 302, response.content.decode()
    assert response.headers["location"] == "/"
    return User.objects.get(email=email.lower())


def test_who_signs_up_gets_a_personal_account_and_lands_in_it() -> None:
    client, email = browser(), address("mia")
    user = sign_up(client, email)
    own = Organization.objects.get(memberships__user=user)
    assert (own.kind, own.name) == ("personal", email.split("@")[0])
    assert Actor.load(user, organization=own).role_label == "Owner"
    response = client.get("/")
    assert response.headers["location"] == f"/o/{own.slug}/"
    assert client.get(f"/o/{own.slug}/doors/").status_code == 200


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (CONSOLE, "No mail server is set: the mail that confirms {} stands in the log of this installation only."),
        ("django.core.mail.backends.locmem.EmailBackend", "A mail that confirms {} is on its way."),
    ],
)
def test_who_signs_up_is_told_where_the_mail_is(settings: Settings, backend: str, words: str) -> None:
    settings.EMAIL_BACKEND = backend
    client, email = browser(), address("mia")
    response = client.post("/accounts/signup/", {"email": email, "password1": PASSWORD, "password2": PASSWORD})
    assert words.format(email) in [str(message) for message in get_messages(response.wsgi_request)]


def test_an_address_is_the_same_in_capitals() -> None:
    email = address("mia")
    user = sign_up(browser(), email.upper())
    assert user.email == email
    client = browser()
    assert client.post("/accounts/login/", {"login": email.title(), "password": PASSWORD}).headers["location"] == "/"


def test_a_taken_address_makes_no_second_account() -> None:
    email = address("mia")
    sign_up(browser(), email)
    browser().post("/accounts/signup/", {"email": email, "password1": PASSWORD, "password2": PASSWORD})
    assert User.objects.filter(email__iexact=email).count() == 1
    assert Organization.objects.filter(memberships__user__email=email).count() == 1


def test_a_bad_form_keeps_what_was_typed_and_makes_nothing() -> None:
    email = address("mia")
    response = browser().post("/accounts/signup/", {"email": email, "password1": PASSWORD, "password2": "other"})
    assert response.status_code == 422
    assert email in response.content.decode()
    assert not User.objects.filter(email=email).exists()


def test_a_wrong_password_does_not_sign_in() -> None:
    email = address("mia")
    sign_up(browser(), email)
    client = browser()
    assert client.post("/accounts/login/", {"login": email, "password": "wrong"}).status_code == 422
    assert client.get("/").headers["location"] == "/accounts/login/?next=/"


def test_guessing_is_stopped() -> None:
    email = address("mia")
    sign_up(browser(), email)
    client = browser()
    for _ in range(5):
        client.post("/accounts/login/", {"login": email, "password": "wrong"})
    response = client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    assert response.status_code == 422
    assert "Too many failed login attempts" in response.content.decode()
    assert client.get("/").headers["location"].startswith("/accounts/login/")


def test_signing_out_ends_it() -> None:
    client = browser()
    sign_up(client, address("mia"))
    client.post("/accounts/logout/")
    assert client.get("/").headers["location"] == "/accounts/login/?next=/"


def test_one_lands_in_the_first_company_then_where_one_was_last(world: World) -> None:
    client = browser()
    client.force_login(world.mia)
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    assert client.get("/").headers["location"] == f"/o/{world.acme.slug}/"
    client.get(f"/o/{own.slug}/doors/")
    assert client.get("/").headers["location"] == f"/o/{own.slug}/"


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_switcher_remembers_and_goes_there(world: World, method: str) -> None:
    client = browser()
    client.force_login(world.mia)
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    response = getattr(client, method)(f"/switch/{own.slug}/")
    assert response.headers["location"] == f"/o/{own.slug}/"
    assert client.get("/").headers["location"] == f"/o/{own.slug}/"


def test_one_switches_only_to_ones_own_organisations(world: World) -> None:
    client = browser()
    assert client.get(f"/switch/{world.acme.slug}/").headers["location"].startswith("/accounts/login/")
    client.force_login(world.charlie)
    assert client.get(f"/switch/{world.acme.slug}/").status_code == 404
    assert client.get("/switch/no-such-place/").status_code == 404
    assert client.put(f"/switch/{world.other.slug}/").status_code == 405
    assert client.get("/").headers["location"] == f"/o/{world.other.slug}/"


def test_who_left_a_company_is_at_home_elsewhere(world: World) -> None:
    client = browser()
    client.force_login(world.mia)
    client.get(f"/o/{world.acme.slug}/doors/")
    Membership.objects.filter(user=world.mia, organization=world.acme).delete()
    own = Organization.objects.get(memberships__user=world.mia)
    assert client.get("/").headers["location"] == f"/o/{own.slug}/"


def test_a_person_made_by_a_command_gets_the_personal_account_at_the_first_visit() -> None:
    user = make_user(address("root"), name="Operator")
    client = browser()
    client.force_login(user)
    for _ in range(2):
        assert client.get("/").status_code == 302
    assert [found.kind for found in Organization.objects.filter(memberships__user=user)] == ["personal"]


def test_signing_up_joins_nobody_elses_organisation(world: World) -> None:
    user = sign_up(browser(), address("eve"))
    add_member(user, group=world.gateway, by=world.actor("sam"))
    assert Actor.load(user, organization=world.acme).role_label == "Member"


# --- accounts at other providers -------------------------------------------------------------------


def a_request() -> HttpRequest:
    request = RequestFactory().get("/")
    request.session = SessionStore()
    return request


def social_login(email: str, **facts: str) -> SocialLogin:
    login = SocialLogin(user=User(), account=SocialAccount(provider="acme-sso", uid=secrets.token_hex(4)))
    SocialAccountAdapter().populate_user(a_request(), login, {"email": email, **facts})
    return login


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"name": "Mia Moss"}, "Mia Moss"),
        ({"first_name": "Mia", "last_name": "Moss"}, "Mia Moss"),
        ({}, ""),
        ({"name": "x" * 200}, "x" * 120),
    ],
)
def test_who_comes_by_another_provider_has_a_personal_account_too(facts: dict[str, str], name: str) -> None:
    login = social_login(address("mia"), **facts)
    user = SocialAccountAdapter().save_user(a_request(), login)
    assert user.name == name
    assert Organization.objects.get(memberships__user=user).kind == "personal"
    assert not user.has_usable_password()


def test_accounts_are_never_joined_by_address(settings: Settings) -> None:
    """Even where the other provider says that it has verified the address, and a setting asks for it."""
    settings.SOCIALACCOUNT_EMAIL_AUTHENTICATION = True
    email = address("mia")
    sign_up(browser(), email)
    login = social_login(email)
    login.email_addresses = [EmailAddress(email=email, verified=True)]
    assert SocialAccountAdapter().authenticate_by_email(login) is None


def test_an_organisations_own_providers_are_not_listed(settings: Settings) -> None:
    settings.SOCIALACCOUNT_PROVIDERS = {"google": {"APPS": [{"client_id": "installation", "secret": "s", "name": "Google"}]}}
    SocialApp.objects.create(provider="saml", provider_id="acme-sso", name="Acme SSO", client_id="acme")
    adapter, request = SocialAccountAdapter(), a_request()
    assert [app.client_id for app in adapter.list_apps(request)] == ["installation"]
    assert [app.client_id for app in adapter.list_apps(request, provider="acme-sso")] == ["acme"]
    assert adapter.get_app(request, provider="acme-sso").name == "Acme SSO"


def test_a_company_is_made_beside_the_personal_account() -> None:
    user = sign_up(browser(), address("founder"))
    company = create_organization("Founded", owner=user)
    client = browser()
    client.force_login(user)
    assert client.get("/").headers["location"] == f"/o/{company.slug}/"


def test_an_installation_may_be_closed_to_strangers(settings: Settings) -> None:
    settings.SIGN_UP_OPEN = False
    email = address("stranger")
    browser().post("/accounts/signup/", {"email": email, "password1": PASSWORD, "password2": PASSWORD})
    assert not User.objects.filter(email=email).exists()
