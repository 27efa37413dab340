"""The call log that follows: who asks is told whether there is more than it shows, and nothing else."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway_project.lib.ids import time_of
from tests.actors import World, signed_in
from tests.ledger_rows import a_call, call_row, insert_calls

POLLS = re.compile(r'hx-get="(\?[^"]*)"[^>]*hx-trigger="every 3s"')


class Log:
    """As its browser sees it."""

    def __init__(self, world: World, name: str = "alice") -> None:
        self.world, self.client = world, signed_in(world, name)

    def open(self, query: str = "?live=1") -> str:
        return str(self.client.get(f"/o/{self.world.acme.slug}/calls/{query}").content.decode())

    def polls(self, page: str) -> list[str]:
        return [unescape(found) for found in POLLS.findall(page)]

    def ask(self, poll: str) -> Any:
        return self.client.get(f"/o/{self.world.acme.slug}/calls/{poll}", headers={"hx-request": "true"})


@pytest.fixture
def log(world: World) -> Log:
    return Log(world)


def test_it_asks_only_when_it_is_told_to(log: Log) -> None:
    page = log.open("")
    assert log.polls(page) == []
    assert 'href="?live=1"' in page
    assert len(log.polls(log.open())) == 1


def test_while_nothing_happens_nothing_is_sent(log: Log) -> None:
    a_call(log.world.key)
    [poll] = log.polls(log.open())
    for _ in range(2):
        answer = log.ask(poll)
        assert (answer.status_code, answer.content) == (204, b"")


def test_what_is_new_comes_as_the_list_alone_and_is_asked_beyond(log: Log) -> None:
    a_call(log.world.key, requested_model="first-model")
    [poll] = log.polls(log.open())
    a_call(log.world.key, requested_model="second-model")
    listed = log.ask(poll).content.decode()
    assert "<html" not in listed
    assert listed.index("second-model") < listed.index("first-model")
    [following] = log.polls(listed)
    assert following != poll
    assert log.ask(following).status_code == 204


def test_a_call_that_began_earlier_and_ends_now_is_new_too(log: Log) -> None:
    """Its place is where it began: below one that is there already."""
    early, late = call_row(log.world.key, requested_model="slow"), call_row(log.world.key, requested_model="quick")
    early, late = sorted((early, late), key=lambda row: row.call_id)
    insert_calls(late)
    [poll] = log.polls(log.open())
    insert_calls(early)
    assert log.ask(poll).status_code == 200


def test_asking_looks_at_no_more_than_the_last_hour(log: Log) -> None:
    """However long the period is and however few calls its filters leave."""
    insert_calls(*(call_row(log.world.key, at=timezone.now() - timedelta(days=3, minutes=at)) for at in range(5)))
    [poll] = log.polls(log.open("?live=1&period=30d"))
    with CaptureQueriesContext(connection) as asked:
        assert log.ask(poll).status_code == 204
    [statement] = [query["sql"] for query in asked.captured_queries if "billing_usagerecord" in query["sql"]]
    begin = UUID(re.findall(r"call_id\" >= '([0-9a-f-]+)'", statement)[-1])
    assert timezone.now() - time_of(begin) < timedelta(hours=1, minutes=1)


@pytest.mark.parametrize("more", ["&seen=0", "&seen=0&from=x", "&seen=0&from=99999999999999", "&from=0", "&seen=0&from=-5"])
def test_an_address_that_nobody_was_given_is_answered_with_the_list(log: Log, more: str) -> None:
    a_call(log.world.key)
    assert "data-row-link" in log.ask(f"?live=1{more}").content.decode()


def test_an_empty_log_is_followed_from_its_first_call_on(log: Log) -> None:
    page = log.open()
    assert "No calls in this period" in page
    [poll] = log.polls(page)
    assert log.ask(poll).status_code == 204
    a_call(log.world.key)
    assert "data-row-link" in log.ask(poll).content.decode()


def test_filters_hold_while_it_follows(log: Log) -> None:
    [poll] = log.polls(log.open("?live=1&period=24h&status=failed"))
    a_call(log.world.key)
    assert log.ask(poll).status_code == 204
    a_call(log.world.key, status="failed", error_code="provider_error", charged_nano_usd=0)
    assert log.ask(poll).status_code == 200


def test_it_goes_on_when_a_filter_is_chosen_and_stops_when_told(log: Log) -> None:
    page = log.open("?live=1&status=failed")
    assert '<input type="hidden" name="live" value="1">' in page
    assert 'href="?status=failed" title="New calls appear by themselves"' in page


@pytest.mark.parametrize("query", ["?live=1&q=0190", "?live=1&before=01900000-0000-7000-8000-000000000000", "?live=yes"])
def test_where_nothing_new_can_come_nothing_is_asked(log: Log, query: str) -> None:
    assert log.polls(log.open(query)) == []


def test_older_pages_stand_still(log: Log) -> None:
    insert_calls(*(call_row(log.world.key) for _ in range(51)))
    page = log.open()
    [poll] = log.polls(page)
    a_call(log.world.key)
    for listed in (page, log.ask(poll).content.decode()):
        [older] = re.findall(r'rel="next" href="([^"]*)"', listed)
        assert "live" not in older
        assert "seen" not in older
        assert "from" not in older


def test_whoever_sees_less_is_told_of_less(world: World) -> None:
    log = Log(world, "noah")
    [poll] = log.polls(log.open())
    a_call(world.key)
    assert log.ask(poll).status_code == 204


def test_who_has_signed_out_is_sent_to_the_sign_in(log: Log) -> None:
    [poll] = log.polls(log.open())
    log.client = Client()
    assert log.ask(poll).headers["hx-redirect"].startswith("/accounts/login/")
