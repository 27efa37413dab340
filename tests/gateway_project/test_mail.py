"""The mail server, from one URL or from single values."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import get_connection

from gateway_project import mail
from orgs.mail import Message, compose


def test_without_a_server_messages_are_printed() -> None:
    assert mail.settings({}) == {
        "EMAIL_BACKEND": mail.CONSOLE,
        "DEFAULT_FROM_EMAIL": "Gatehouse <gatehouse@localhost>",
        "SERVER_EMAIL": "Gatehouse <gatehouse@localhost>",
    }


@pytest.mark.parametrize(
    ("variables", "server"),
    [
        ({"EMAIL_URL": "smtp://mail.example"}, ("mail.example", 587, "", "", True, False)),
        ({"EMAIL_URL": "smtps://me%40example:p%3A%2F@mail.example"}, ("mail.example", 465, "me@example", "p:/", False, True)),
        ({"EMAIL_URL": "smtp+plain://127.0.0.1:2525"}, ("127.0.0.1", 2525, "", "", False, False)),
        ({"EMAIL_HOST": "mail.example"}, ("mail.example", 587, "", "", True, False)),
        (
            {"EMAIL_HOST": "m", "EMAIL_PORT": "26", "EMAIL_USER": "a@b", "EMAIL_PASSWORD": "p@:/?#", "EMAIL_SECURITY": "tls"},
            ("m", 26, "a@b", "p@:/?#", False, True),
        ),
        ({"EMAIL_HOST": "m", "EMAIL_SECURITY": "none"}, ("m", 25, "", "", False, False)),
    ],
)
def test_a_server_is_named_either_way(variables: dict[str, str], server: tuple[Any, ...]) -> None:
    found = mail.settings(variables)
    names = ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS", "USE_SSL")
    assert tuple(found[f"EMAIL_{name}"] for name in names) == server
    assert found["EMAIL_BACKEND"] == mail.SMTP
    assert found["EMAIL_TIMEOUT"] == 20


def test_another_backend_and_sender_may_be_chosen() -> None:
    found = mail.settings({"EMAIL_URL": "smtp://m", "EMAIL_BACKEND": "a.Backend", "EMAIL_FROM": "Acme <ai@acme.test>"})
    assert (found["EMAIL_BACKEND"], found["DEFAULT_FROM_EMAIL"]) == ("a.Backend", "Acme <ai@acme.test>")


@pytest.mark.parametrize(
    "variables",
    [
        {"EMAIL_URL": "mail.example"},
        {"EMAIL_URL": "http://mail.example"},
        {"EMAIL_URL": "smtp://"},
        {"EMAIL_URL": "smtp://mail.example:port"},
        {"EMAIL_HOST": "m", "EMAIL_PORT": "many"},
        {"EMAIL_HOST": "m", "EMAIL_SECURITY": "some"},
    ],
)
def test_what_cannot_be_meant_stops_the_start(variables: dict[str, str]) -> None:
    with pytest.raises(ImproperlyConfigured):
        mail.settings(variables)


def test_without_a_server_a_message_is_printed_as_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    message = compose(
        Message(
            subject="You are\ninvited",
            paragraphs=("Come & see.",),
            button="Accept",
            link="https://gate.test/i/7",
            notes=("Or not.",),
        ),
        to="lena@example.test",
    )
    backend = get_connection(mail.CONSOLE)
    assert backend.send_messages([message, message]) == 2
    printed = capsys.readouterr().out
    assert printed.startswith("E-mail to lena@example.test: You are invited\n  Come & see.\n")
    assert printed.count("https://gate.test/i/7") == 2
    assert "<" not in printed
    assert all(line.startswith(("E-mail to ", "  ")) or not line for line in printed.splitlines())
