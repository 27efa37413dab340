"""A test's browser is signed in as Django's own test client signs it in, in fewer statements (tests/once.py)."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.client import ClientMixin
from django.test.utils import CaptureQueriesContext

from orgs.models import User
from tests.actors import World, signed_in

SESSION = "sessionid"


def signed_in_quickly(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def signed_in_slowly(user: User) -> Client:
    client = Client()
    patched: Any = vars(ClientMixin)["_login"]
    patched.__wrapped__(client, user)
    return client


def described(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the session holds, and what its cookie says beside its value."""
    return dict(client.session.items()), dict(client.cookies[SESSION])


def test_it_has_the_session_that_django_would_give_it(world: World) -> None:
    quickly, slowly = signed_in_quickly(world.alice), signed_in_slowly(world.alice)

    assert described(quickly) == described(slowly)
    assert quickly.cookies[SESSION].value != slowly.cookies[SESSION].value
    assert len(quickly.cookies[SESSION].value) == len(slowly.cookies[SESSION].value)
    assert [client.get(f"/o/{world.acme.slug}/keys/").status_code for client in (quickly, slowly, Client())] == [200, 200, 302]


def test_both_are_stored_once_and_until_the_same_moment(world: World) -> None:
    made = signed_in_quickly(world.alice), signed_in_slowly(world.alice)
    rows = [Session.objects.get(pk=client.cookies[SESSION].value) for client in made]

    assert abs((rows[0].expire_date - rows[1].expire_date).total_seconds()) < 60
    assert rows[0].get_decoded() == rows[1].get_decoded()


def test_the_moment_is_noted(world: World) -> None:
    assert world.alice.last_login is None

    signed_in(world)

    world.alice.refresh_from_db()
    assert world.alice.last_login is not None


@pytest.mark.parametrize(("then", "stays"), [("alice", True), ("sam", False)])
def test_who_has_a_session_keeps_it_and_another_does_not_get_it(world: World, then: str, stays: bool) -> None:
    client = signed_in(world)
    first = client.cookies[SESSION].value

    client.force_login(getattr(world, then))

    assert (client.cookies[SESSION].value == first) is stays
    assert Session.objects.filter(pk=first).exists() is stays
    assert client.session["_auth_user_id"] == str(getattr(world, then).pk)


def test_signing_out_ends_it(world: World) -> None:
    client = signed_in(world)
    key = client.cookies[SESSION].value

    client.logout()

    assert not Session.objects.filter(pk=key).exists()
    assert client.get(f"/o/{world.acme.slug}/keys/").status_code == 302


def test_the_browser_of_one_of_the_worlds_people_is_in_use(world: World) -> None:
    """What a page writes into the session of whoever opens the first one stands there: the page changes it no more."""
    used, new = signed_in(world), signed_in_quickly(world.alice)
    before = dict(used.session.items())
    for client in (used, new):
        assert client.get(f"/o/{world.acme.slug}/keys/").status_code == 200

    assert dict(used.session.items()) == before
    assert before.keys() == new.session.keys()
    assert before["last_organization"] == new.session["last_organization"]


def test_it_takes_one_exchange(world: World) -> None:
    with CaptureQueriesContext(connection) as quickly:
        signed_in_quickly(world.alice)
    with CaptureQueriesContext(connection) as slowly:
        signed_in_slowly(world.alice)

    assert len(quickly) == 1 < len(slowly)
