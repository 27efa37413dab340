"""What signing in writes to people: every message of allauth's has words of ours, as text and as HTML."""

import re
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import allauth
import pytest
from django.core.mail import EmailMultiAlternatives
from pytest_django import Settings

from orgs.mail import Message, compose
from orgs.sign_in_mail import CHANGES, MESSAGES, message

CONTEXT = {
    **{"email": "mia@example.test", "from_email": "old@example.test", "to_email": "new@example.test"},
    **{"deleted_email": "old@example.test", "provider": "GitHub", "code": "ABC-123"},
    **{name: f"https://gate.example/{name}/?a=1&b=2" for name in ("password_reset_url", "signup_url", "activate_url")},
    **{"ip": "203.0.113.9", "user_agent": "Firefox Linux", "timestamp": datetime(2026, 11, 28, 14, 5, tzinfo=UTC)},
}
# Of ways that are switched off: telephone numbers, codes in place of links.
UNUSED = {"account/email/password_reset_code", "account/email/base"}


def html_of(mail: EmailMultiAlternatives) -> str:
    [(content, kind)] = mail.alternatives
    assert kind == "text/html"
    return str(content)


def test_every_message_that_allauth_knows_has_words() -> None:
    folder = Path(allauth.__file__).parent / "templates"
    found = {
        str(path.relative_to(folder)).removesuffix("_message.txt")
        for app in ("account", "mfa", "socialaccount")
        for path in (folder / app / "email").glob("*_message.txt")
    }
    assert found - UNUSED == MESSAGES.keys() | CHANGES.keys()


@pytest.mark.parametrize("name", [*MESSAGES, *CHANGES])
def test_both_forms_say_the_same(name: str) -> None:
    told = message(name, CONTEXT)
    mail = compose(told, to="mia@example.test")
    html = unescape(html_of(mail))
    words = " ".join(mail.body.split())
    for paragraph in (*told.paragraphs, *told.notes):
        assert " ".join(paragraph.split()) in words
        assert paragraph in html
    for thing in filter(None, (told.link, told.code)):
        assert thing in mail.body
        assert thing in html
    assert "{" not in words
    assert mail.to == ["mia@example.test"]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_says_where_it_came_from_and_what_to_do(name: str) -> None:
    body = " ".join(compose(message(name, CONTEXT), to="mia@example.test").body.split())
    assert "Firefox on Linux, from 203.0.113.9, on Nov 28, 2026, 14:05 UTC" in body
    assert "If this was not you" in body


def test_nothing_in_a_message_is_taken_for_markup_or_a_header() -> None:
    mail = compose(Message("Hello\r\nBcc: eve@example.test", ("<script>alert(1)</script>",)), to="mia@example.test")
    assert mail.subject == "Hello Bcc: eve@example.test"
    assert "<script>" in mail.body
    assert "<script>" not in html_of(mail)
    assert mail.message()["Bcc"] is None


def test_the_page_loads_nothing_from_anywhere() -> None:
    html = html_of(compose(message("account/email/login_code", CONTEXT), to="mia@example.test"))
    assert not re.search(r"<(img|script|link|iframe)|url\(|@import", html)


def test_what_is_given_along_is_no_pattern() -> None:
    told = message("account/email/email_deleted", {**CONTEXT, "deleted_email": "{code}@example.test"})
    assert told.paragraphs[0].startswith("{code}@example.test")


def test_a_link_leads_to_the_address_of_the_installation_whatever_host_was_asked_for(settings: Settings) -> None:
    settings.PUBLIC_URL = "https://gate.example"
    url = "http://evil.example/accounts/password/reset/key/1-a/?x=1"
    told = message("account/email/password_reset_key", {**CONTEXT, "password_reset_url": url})
    assert told.link == "https://gate.example/accounts/password/reset/key/1-a/?x=1"
