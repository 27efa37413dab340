"""The sign-in page: the address first; known and unknown addresses look the same; nobody is sent away by a link."""

import re
from html import unescape

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.test import Client
from pytest_django import Settings

from orgs.models import AuditEvent
from tests.actors import make_user
from tests.orgs.test_sign_in import PASSWORD, address, browser

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/login/"


def page(client: Client, **posted: str) -> str:
    answer = client.post(LOGIN, posted)
    assert answer.status_code == 200, answer.content.decode()
    return unescape(answer.content.decode())


def without_secrets(text: str, email: str) -> str:
    """What two answers may differ in: tokens, and the address that was typed."""
    text = re.sub(r"\b[A-Za-z0-9]{64}\b", "TOKEN", text)
    return text.replace(email, "ADDRESS")


def test_the_first_step_asks_for_the_address_only() -> None:
    text = browser().get(LOGIN).content.decode()
    assert 'name="login"' in text
    assert 'name="password"' not in text
    assert "Continue with" not in text


@pytest.mark.parametrize("path", [LOGIN, "/accounts/login/code/", "/accounts/password/reset/", "/accounts/signup/"])
def test_pages_of_allauth_spell_as_the_others_do(path: str) -> None:
    text = browser().get(path).content.decode()
    assert "E-mail</label>" in text
    assert "Email" not in text


def test_the_second_step_asks_how_and_keeps_the_address() -> None:
    text = page(browser(), login="Mia@Example.test")
    assert '<input type="hidden" name="login" value="mia@example.test"' in text
    assert 'name="password"' in text
    assert 'type="hidden" name="email" value="mia@example.test"' in text
    assert 'id="passkey_login"' in text


def test_nobody_learns_from_the_second_step_who_has_an_account() -> None:
    known, unknown = address("mia"), address("eve")
    make_user(known, password=PASSWORD)
    answers = [without_secrets(page(browser(), login=email), email) for email in (known, unknown)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/login/code/", "/accounts/password/reset/"])
def test_nobody_learns_from_any_answer_who_has_an_account(path: str) -> None:
    known, unknown = address("mia"), address("eve")
    make_user(known, password=PASSWORD)
    seen = []
    for email in (known, unknown):
        answer = browser().post(path, {"login": email, "email": email, "password": "wrong and wrong"}, follow=True)
        seen.append((answer.redirect_chain, answer.status_code, without_secrets(answer.content.decode(), email)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("typed", ["", "mia", "mia@", "a" * 400 + "@example.test", "mia@example.test\nBcc: eve@example.test"])
def test_what_is_no_address_is_said_at_the_field_and_kept(typed: str) -> None:
    answer = browser().post(LOGIN, {"login": typed})
    assert answer.status_code == 422
    assert 'id="id_login_error"' in answer.content.decode()
    assert typed.split("\n")[0] in unescape(answer.content.decode())


def test_a_wrong_password_is_written_down_where_there_is_an_account() -> None:
    """For its owner to see; of an address that nobody has, nothing is kept, and the chains stay whole."""
    email = address("mia")
    mia = make_user(email, password=PASSWORD)
    browser().post(LOGIN, {"login": email.upper(), "password": "wrong"})
    event = AuditEvent.objects.get(organization=None, object_type="user", object_id=str(mia.pk), action="sign_in.refused")
    assert (event.actor, event.after) == (None, {"factor": "password"})
    assert event.ip
    count = AuditEvent.objects.count()
    browser().post(LOGIN, {"login": address("nobody"), "password": "wrong"})
    assert AuditEvent.objects.count() == count
    client = browser()
    client.post(LOGIN, {"login": email, "password": PASSWORD})
    assert "Sign-in refused" in client.get("/account/").content.decode()


def test_a_wrong_password_stays_at_the_second_step() -> None:
    email = address("mia")
    make_user(email, password=PASSWORD)
    answer = browser().post(LOGIN, {"login": email, "password": "wrong"})
    text = answer.content.decode()
    assert answer.status_code == 422
    assert 'type="hidden" name="login"' in text
    assert "wrong" not in re.sub(r"<[^>]*class[^>]*>", "", text)


def test_one_lands_where_one_wanted_to_go() -> None:
    email = address("mia")
    make_user(email, password=PASSWORD)
    client, wanted = browser(), "/switch/somewhere/"
    assert f'name="next" value="{wanted}"' in client.get(f"{LOGIN}?next={wanted}").content.decode()
    assert f'name="next" value="{wanted}"' in page(client, login=email, next=wanted)
    assert client.post(LOGIN, {"login": email, "password": PASSWORD, "next": wanted}).headers["location"] == wanted


@pytest.mark.parametrize(
    "away",
    [
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test/",
        "javascript:alert(1)",
        "http:evil.test",
        "https:/\\evil.test",
        "\thttps://evil.test",
    ],
)
def test_no_link_leads_away_after_sign_in(away: str) -> None:
    email = address("mia")
    make_user(email, password=PASSWORD)
    posted = browser().post(LOGIN, {"login": email, "password": PASSWORD, "next": away})
    assert posted.headers["location"] == "/"
    by_link = Client(REMOTE_ADDR="198.51.100.7")
    by_link.force_login(make_user(address("noah")))
    assert by_link.get(LOGIN, {"next": away}).headers["location"] == "/"


def test_a_code_by_e_mail_signs_in() -> None:
    email = address("mia")
    make_user(email)
    client = browser()
    assert client.post("/accounts/login/code/", {"email": email}).headers["location"] == "/accounts/login/code/confirm/"
    [sent] = mail.outbox
    code = re.search(r"^\s*([A-Z0-9]{3,}-?[A-Z0-9]{3,})\s*$", str(sent.body), re.MULTILINE)
    assert code, sent.body
    assert client.post("/accounts/login/code/confirm/", {"code": code[1]}).headers["location"] == "/"
    assert client.get("/").headers["location"].startswith("/o/")


def test_guessing_from_one_address_is_answered_with_a_page_that_says_so() -> None:
    client = browser()
    answers = [client.post(LOGIN, {"login": address("mia")}) for _ in range(31)]
    assert [answer.status_code for answer in answers[:30]] == [200] * 30
    assert answers[30].status_code == 429
    assert "Too many attempts" in answers[30].content.decode()


def test_a_form_without_its_token_is_refused() -> None:
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(LOGIN, {"login": "mia@example.test"}).status_code == 403


def test_the_page_stands_in_no_frame_and_no_cache() -> None:
    headers = browser().get(LOGIN).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "no-store" in headers["Cache-Control"]


def test_the_session_cookie_is_for_the_server_only(settings: Settings) -> None:
    settings.SESSION_COOKIE_SECURE = True
    email = address("mia")
    make_user(email, password=PASSWORD)
    client = browser()
    client.post(LOGIN, {"login": email, "password": PASSWORD})
    cookie = client.cookies[django_settings.SESSION_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", True)


def test_a_session_of_a_stranger_is_not_taken_over() -> None:
    """What stood in the browser before the sign-in is no key to what comes after it."""
    email = address("mia")
    make_user(email, password=PASSWORD)
    client = browser()
    client.get(f"{LOGIN}?next=/")
    session = client.session
    session["planted"] = True
    session.save()
    client.cookies[django_settings.SESSION_COOKIE_NAME] = str(session.session_key)
    client.post(LOGIN, {"login": email, "password": PASSWORD})
    assert client.cookies[django_settings.SESSION_COOKIE_NAME].value != session.session_key


# --- accounts elsewhere ----------------------------------------------------------------------------


def test_buttons_are_there_for_what_is_configured(settings: Settings) -> None:
    settings.SOCIALACCOUNT_PROVIDERS = {"github": {"APPS": [{"client_id": "id", "secret": "secret"}]}}
    text = browser().get(LOGIN).content.decode()
    assert "Continue with GitHub" in text
    assert "Continue with Google" not in text


@pytest.mark.parametrize(
    "path", ["google/login/", "google/login/callback/", "github/login/", "oidc/oidc/login/", "oidc/other/login/"]
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_what_is_not_configured_does_not_exist(path: str, method: str) -> None:
    assert getattr(browser(), method)(f"/accounts/{path}").status_code == 404
