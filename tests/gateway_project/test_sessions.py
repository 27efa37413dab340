"""Sessions, looked up by SQL that is written once."""

from datetime import timedelta

import pytest
from django.contrib.sessions.backends import db as django_sessions
from django.contrib.sessions.models import Session
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from gateway_project.lib.sessions import SessionStore
from tests.actors import World, signed_in


@pytest.fixture
def kept(db: None) -> SessionStore:
    made = SessionStore()
    made["colour"] = "green"
    made.save()
    return made


def test_it_is_what_django_finds_in_one_statement(kept: SessionStore, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        found = SessionStore(kept.session_key)
        assert dict(found.items()) == {"colour": "green"}
    assert dict(django_sessions.SessionStore(kept.session_key).items()) == dict(found.items())


@pytest.mark.parametrize("key", [None, "", "short", "x" * 32, "x" * 4000, "' OR 'a' = 'a"])
def test_another_key_finds_none_and_is_not_used_again(kept: SessionStore, key: str | None) -> None:
    found = SessionStore(key)
    assert found.is_empty() or "colour" not in found
    found["colour"] = "red"
    found.save()
    assert found.session_key not in (key, kept.session_key)


def test_one_whose_time_is_over_is_none(kept: SessionStore) -> None:
    Session.objects.filter(session_key=kept.session_key).update(expire_date=timezone.now() - timedelta(seconds=1))
    found = SessionStore(kept.session_key)
    assert dict(found.items()) == {}
    assert found.session_key is None


def test_whoever_is_signed_in_is_signed_out_with_its_end(world: World) -> None:
    browser = signed_in(world, "mia")
    assert browser.get("/account/").status_code == 200
    Session.objects.update(expire_date=timezone.now())
    assert browser.get("/account/").status_code == 302
