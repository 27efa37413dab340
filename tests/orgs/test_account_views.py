"""A person's own pages: profile, how they sign in, sessions; and what of it is written down."""

import re
import time
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.core.context import request_context
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.core import mail
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from orgs.models import AccessToken, AuditEvent, User
from orgs.origin import Origin
from orgs.services.sessions import SEEN_EVERY, end_sessions
from tests.actors import make_user
from tests.orgs.test_sign_in import PASSWORD, address, browser

pytestmark = pytest.mark.django_db
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def mia() -> User:
    user = make_user(address("mia"), name="Mia", password=PASSWORD)
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    return user


def signed_in(user: User, *, agent: str = FIREFOX) -> Client:
    client = browser()
    client.defaults["HTTP_USER_AGENT"] = agent
    answer = client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    assert answer.status_code == 302, answer.content.decode()
    return client


def confirmed(client: Client) -> Client:
    """Who wants to change how they sign in gives the password once more."""
    assert client.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302
    return client


def actions(user: User) -> list[str]:
    return list(
        AuditEvent.objects.filter(organization=None, object_type="user", object_id=str(user.pk))
        .order_by("pk")
        .values_list("action", flat=True)
    )


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/accounts/email/", {"action_add": "", "email": "mia@private.example"}),
        ("/tokens/", {"name": "ci", "days": "30", "read": ["groups"]}),
    ],
)
def test_what_outlasts_a_session_is_made_by_who_shows_the_password_again(mia: User, path: str, form: dict[str, Any]) -> None:
    def made() -> int:
        return EmailAddress.objects.filter(user=mia, primary=False).count() + AccessToken.objects.filter(user=mia).count()

    client = signed_in(mia)
    asked = client.post(path, form).headers["location"]
    assert asked.startswith("/accounts/reauthenticate/?next=")
    assert made() == 0
    client.post(asked, {"password": PASSWORD})
    assert made() == 1


# --- profile ---------------------------------------------------------------------------------------


def test_the_page_says_how_one_signs_in_and_what_happened(mia: User) -> None:
    page = unescape(signed_in(mia).get("/account/").content.decode())
    assert 'value="Mia"' in page
    assert "Confirmed" in page
    assert "Authenticator app" in page
    assert "Signed in" in page
    assert "Firefox on Linux" in page


def test_a_name_is_changed_and_that_is_written_down(mia: User) -> None:
    client = signed_in(mia)
    assert client.post("/account/", {"name": "  Mia   Moss "}).headers["location"] == "/account/"
    assert User.objects.get(pk=mia.pk).name == "Mia Moss"
    event = AuditEvent.objects.get(action="person.renamed", object_id=str(mia.pk))
    assert (event.actor, event.organization, event.before, event.after) == (mia, None, {"name": "Mia"}, {"name": "Mia Moss"})
    client.post("/account/", {"name": "Mia Moss"})
    assert actions(mia).count("person.renamed") == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 121, "Mia\u202eMoss"])
def test_what_is_no_name_is_refused_and_kept(mia: User, name: str) -> None:
    answer = signed_in(mia).post("/account/", {"name": name})
    assert answer.status_code == 422
    assert 'id="id_name_error"' in answer.content.decode()
    assert User.objects.get(pk=mia.pk).name == "Mia"


def test_pages_cost_few_queries(mia: User, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    client = signed_in(mia)
    for _ in range(6):
        signed_in(mia)
    for path in ("/account/", "/accounts/sessions/", "/accounts/2fa/"):
        client.get(path)
        with django_assert_max_num_queries(12):
            assert client.get(path).status_code == 200


# --- sessions --------------------------------------------------------------------------------------


def test_sessions_are_listed_and_each_can_be_ended(mia: User) -> None:
    here, there = signed_in(mia), signed_in(mia, agent="Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari/605.1")
    page = here.get("/accounts/sessions/").content.decode()
    assert "Firefox on Linux" in page
    assert "Safari on iPhone" in page
    assert page.count("This one") == 1
    other = UserSession.objects.get(user=mia, session_key=there.session.session_key)
    assert here.post(f"/account/sessions/{other.pk}/end/").headers["location"] == "/accounts/sessions/"
    assert there.get("/account/").headers["location"].startswith("/accounts/login/")
    assert here.get("/account/").status_code == 200
    assert actions(mia)[-1] == "session.ended"


def test_nobody_ends_somebody_elses_session(mia: User) -> None:
    eve = make_user(address("eve"), password=PASSWORD)
    signed_in(mia)
    session = UserSession.objects.get(user=mia)
    assert signed_in(eve).post(f"/account/sessions/{session.pk}/end/").status_code == 404
    assert Session.objects.filter(session_key=session.session_key).exists()


def test_the_session_in_use_ends_by_signing_out(mia: User) -> None:
    client = signed_in(mia)
    session = UserSession.objects.get(user=mia)
    assert client.post(f"/account/sessions/{session.pk}/end/").headers["location"] == "/accounts/logout/"


def test_all_others_end_at_once(mia: User) -> None:
    here, others = signed_in(mia), [signed_in(mia) for _ in range(2)]
    here.post("/account/sessions/end-others/")
    assert [other.get("/account/").status_code for other in others] == [302, 302]
    assert here.get("/account/").status_code == 200
    event = AuditEvent.objects.get(action="session.all_ended", object_id=str(mia.pk))
    assert event.before == {"sessions": 2}


def test_ending_nothing_is_not_written_down(mia: User) -> None:
    assert end_sessions(mia, origin=Origin()) == 0
    assert actions(mia) == []


@pytest.mark.parametrize("path", ["/account/sessions/1/end/", "/account/sessions/end-others/"])
def test_a_link_ends_no_session(mia: User, path: str) -> None:
    assert signed_in(mia).get(path).status_code == 405


def test_a_session_is_written_now_and_then_only(mia: User) -> None:
    client = signed_in(mia)
    client.get("/account/")
    session = UserSession.objects.get(user=mia)
    client.get("/account/")
    assert UserSession.objects.get(user=mia).last_seen_at == session.last_seen_at
    stored = client.session
    stored["seen_at"] = int((timezone.now() - SEEN_EVERY).timestamp())
    stored.save()
    client.get("/account/", REMOTE_ADDR="203.0.113.9")
    seen = UserSession.objects.get(user=mia)
    assert seen.last_seen_at > session.last_seen_at
    assert seen.ip == "203.0.113.9"


# --- passwords -------------------------------------------------------------------------------------


def test_a_new_password_ends_every_other_session(mia: User) -> None:
    here, there = signed_in(mia), signed_in(mia)
    new = "another horse entirely"
    answer = here.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert answer.status_code == 302
    assert here.get("/account/").status_code == 200
    assert there.get("/account/").status_code == 302
    assert UserSession.objects.filter(user=mia).count() == 1
    assert actions(mia)[-2:] == ["password.changed", "session.all_ended"]
    assert "password" in str(mail.outbox[-1].subject).lower()


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("/accounts/password/change/", ["Present password", "New password", "New password, once more"]),
        ("/accounts/signup/", ["E-mail", "Password", "Password, once more"]),
    ],
)
def test_passwords_are_called_as_people_call_them(mia: User, path: str, labels: list[str]) -> None:
    page = (browser() if "signup" in path else signed_in(mia)).get(path).content.decode()
    assert [label.strip() for label in re.findall(r'<label class="form-label" for="\w+">([^<]+)', page)] == labels
    assert "At least 8 characters, not digits only" in page
    assert "placeholder" not in page.partition("<form")[2].partition("</form>")[0]


def test_a_wrong_old_password_changes_nothing(mia: User) -> None:
    new = "another horse entirely"
    answer = signed_in(mia).post("/accounts/password/change/", {"oldpassword": "no", "password1": new, "password2": new})
    assert answer.status_code == 422
    assert User.objects.get(pk=mia.pk).check_password(PASSWORD)


def test_a_forgotten_password_is_reset_by_a_link_that_works_once(mia: User) -> None:
    elsewhere = signed_in(mia)
    browser().post("/accounts/password/reset/", {"email": mia.email})
    [link] = re.findall(r"https?://\S+(/accounts/password/reset/key/\S+)", str(mail.outbox[-1].body))
    client = browser()
    page = client.get(link, follow=True)
    action = page.request["PATH_INFO"]
    new = "another horse entirely"
    assert client.post(action, {"password1": new, "password2": new}).status_code == 302
    assert User.objects.get(pk=mia.pk).check_password(new)
    assert elsewhere.get("/account/").status_code == 302
    assert "password.reset" in actions(mia)
    assert "no longer works" in unescape(browser().get(link, follow=True).content.decode())


def test_guessing_is_written_down_once(mia: User) -> None:
    client = browser()
    for _ in range(8):
        client.post("/accounts/login/", {"login": mia.email.upper(), "password": "wrong"})
    [event] = AuditEvent.objects.filter(action="sign_in.blocked", object_id=str(mia.pk))
    assert event.actor is None
    assert event.ip
    for _ in range(8):
        client.post("/accounts/login/", {"login": address("nobody"), "password": "wrong"})
    assert not AuditEvent.objects.filter(action="sign_in.blocked").exclude(pk=event.pk).exists()


def tell(callbacks: list[Callable[[], object]], answer: Any) -> None:
    """What allauth does once its change is committed, which inside a test never happens; it still needs the request then."""
    with request_context(answer.wsgi_request):
        for callback in callbacks:
            callback()


# --- second factors --------------------------------------------------------------------------------


def test_an_authenticator_app_is_set_up_and_asked_for(
    mia: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    client = signed_in(mia)
    assert client.get("/accounts/2fa/totp/activate/").headers["location"].startswith("/accounts/reauthenticate/?next=")
    page = confirmed(client).get("/accounts/2fa/totp/activate/").content.decode()
    secret = client.session["mfa.totp.secret"]
    assert secret in page
    assert client.post("/accounts/2fa/totp/activate/", {"code": "000000x"}).status_code == 422
    code = totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))
    with django_capture_on_commit_callbacks() as told:
        answer = client.post("/accounts/2fa/totp/activate/", {"code": code})
    tell(told, answer)
    assert answer.headers["location"] == "/accounts/2fa/recovery-codes/"
    stored = Authenticator.objects.get(user=mia, type="totp")
    assert secret not in str(stored.data)
    assert actions(mia)[-2:] == ["second_factor.added", "second_factor.added"]

    codes = re.findall(r"<li><code>(\d+)</code>", client.get("/accounts/2fa/recovery-codes/").content.decode())
    assert len(codes) == 10
    assert actions(mia)[-1] == "recovery_codes.viewed"
    downloaded = client.get("/accounts/2fa/recovery-codes/download/").content.decode()
    assert downloaded.split() == codes

    again = browser()
    answer = again.post("/accounts/login/", {"login": mia.email, "password": PASSWORD})
    assert answer.headers["location"].startswith("/accounts/2fa/authenticate/")
    assert again.get("/account/").status_code == 302
    assert again.post("/accounts/2fa/authenticate/", {"code": "wrong"}).status_code == 422
    refused = AuditEvent.objects.filter(object_type="user", object_id=str(mia.pk)).latest("pk")
    assert (refused.action, refused.actor, refused.after) == ("sign_in.refused", None, {"factor": "authenticator app"})
    assert again.post("/accounts/2fa/authenticate/", {"code": codes[0]}).headers["location"] == "/"
    assert again.get("/account/").status_code == 200
    once_more = browser()
    once_more.post("/accounts/login/", {"login": mia.email, "password": PASSWORD})
    assert once_more.post("/accounts/2fa/authenticate/", {"code": codes[0]}).status_code == 422
    assert actions(mia)[-1] == "sign_in.refused"


def test_codes_are_shown_to_who_gave_the_password_again_only(mia: User) -> None:
    client = confirmed(signed_in(mia))
    totp.TOTP.activate(mia, totp.generate_totp_secret())
    client.post("/accounts/2fa/recovery-codes/generate/")
    before = actions(mia)
    stale = signed_in_with_code(mia)
    for path in ("/accounts/2fa/recovery-codes/", "/accounts/2fa/recovery-codes/download/"):
        assert stale.get(path).headers["location"].startswith("/accounts/reauthenticate/")
    assert [action for action in actions(mia)[len(before) :] if action != "person.signed_in"] == []


def signed_in_with_code(user: User) -> Client:
    client = browser()
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    [codes] = Authenticator.objects.filter(user=user, type="recovery_codes")
    client.post("/accounts/2fa/authenticate/", {"code": codes.wrap().get_unused_codes()[0]})
    # The sign-in itself does not count as a confirmation.
    session = client.session
    session.pop("account_authentication_methods", None)
    session.save()
    return client


def test_new_codes_and_a_factor_taken_away_are_written_down(
    mia: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    client = confirmed(signed_in(mia))
    totp.TOTP.activate(mia, totp.generate_totp_secret())
    with django_capture_on_commit_callbacks() as told:
        answer = client.post("/accounts/2fa/recovery-codes/generate/")
    tell(told, answer)
    assert actions(mia)[-1] == "second_factor.renewed"
    client.post("/accounts/2fa/totp/deactivate/")
    assert actions(mia)[-2:] == ["second_factor.removed", "second_factor.removed"]
    assert not Authenticator.objects.filter(user=mia).exists()


def test_an_address_that_is_not_confirmed_gets_no_second_factor(mia: User) -> None:
    EmailAddress.objects.filter(user=mia).update(verified=False)
    client = confirmed(signed_in(mia))
    assert client.get("/accounts/2fa/totp/activate/").status_code == 302
    assert not Authenticator.objects.filter(user=mia).exists()
