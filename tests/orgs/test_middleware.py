"""Forms that are refused, sign-ins that go on elsewhere."""

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from pytest_django import Settings

from orgs.models import User
from tests.actors import make_user
from tests.orgs.test_sign_in import address, browser

pytestmark = pytest.mark.django_db


def person() -> tuple[User, Client]:
    user = make_user(address("mia"))
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    client = browser()
    client.force_login(user)
    return user, client


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/accounts/signup/", {"email": "no address"}),
        ("/accounts/password/reset/", {"email": "no address"}),
        ("/accounts/login/code/", {"email": "no address"}),
    ],
)
def test_a_refused_form_of_allauths_is_422(path: str, data: dict[str, str]) -> None:
    answer = browser().post(path, data)
    assert answer.status_code == 422
    assert "no address" in answer.content.decode()


def test_an_address_that_is_none_is_refused_and_one_that_is_taken_looks_like_any_other() -> None:
    _, client = person()
    assert client.post("/accounts/email/", {"action_add": "", "email": "none"}).status_code == 422
    taken = make_user(address("noah")).email
    answers = [client.post("/accounts/email/", {"action_add": "", "email": email}) for email in (taken, address("free"))]
    assert [answer.status_code for answer in answers] == [302, 302]


def test_a_sign_in_elsewhere_goes_on_by_a_page_of_ours(settings: Settings) -> None:
    """A redirect of the form itself would be stopped by our own policy."""
    settings.SOCIALACCOUNT_PROVIDERS = {
        "github": {"APPS": [{"client_id": "the-client", "secret": "s"}], "OAUTH_PKCE_ENABLED": True}
    }
    client = browser()
    assert "Continue with GitHub" in client.get("/accounts/github/login/").content.decode()
    answer = client.post("/accounts/github/login/?process=login")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=https://github.com/login/oauth/authorize?' in text
    assert "client_id=the-client" in text
    assert "code_challenge_method=S256" in text
    assert "no-store" in answer.headers["Cache-Control"]
    assert client.session.session_key


def test_who_comes_back_without_having_left_is_told(settings: Settings) -> None:
    settings.SOCIALACCOUNT_PROVIDERS = {"github": {"APPS": [{"client_id": "the-client", "secret": "s"}]}}
    answer = browser().get("/accounts/github/login/callback/?code=forged&state=forged")
    assert answer.status_code in (200, 401, 403)
    assert "That did not work" in answer.content.decode()


@pytest.mark.parametrize("path", ["/accounts/email/", "/accounts/2fa/", "/accounts/password/change/"])
def test_what_a_signed_in_person_is_shown_stays_in_no_cache(path: str) -> None:
    _, client = person()
    assert "no-store" in client.get(path, follow=True).headers["Cache-Control"]
