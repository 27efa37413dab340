"""The operator's pages of providers, prices and the installation itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from billing.models import PriceVersion
from billing.price_list import BEGINNING
from gateway_project import background
from gateway_project.lib import redis
from gateway_project.versions import versions
from guardrails import counters
from guardrails.leases import alive_workers
from orgs.models import AuditEvent
from proxy.models import Deployment, Model, Provider
from tests.actors import World, operator

pytestmark = pytest.mark.django_db
TASK = "billing.tasks.book_usage"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(operator().user)
    return client


def page(client: Client, name: str) -> str:
    answer = client.get(reverse(f"platform:{name}"))
    assert answer.status_code == 200
    return unescape(answer.content.decode())


@pytest.fixture
def quiet() -> Iterator[None]:
    """No message waits and no task has run; nothing is left of what the test queues."""
    redis.client().delete(background.HEARTBEATS, background.QUEUE)
    yield
    redis.client().delete(background.HEARTBEATS, background.QUEUE)


def test_providers_are_listed_with_where_their_key_comes_from_and_never_the_key(
    world: World, client: Client, empty_catalogue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_ALPHA", "sk-very-secret")
    alpha = Provider.objects.create(name="alpha", kind="openai", api_key_env="KEY_OF_ALPHA")
    Provider.objects.create(name="beta", kind="openai", api_key_env="KEY_OF_BETA")
    Provider.objects.create(name="gamma", kind="openai", enabled=False, api_key_encrypted="v1.x.y.z")
    model = Model.objects.create(name="one-model")
    Deployment.objects.create(model=model, provider=alpha, upstream_model="gpt-x")

    shown = page(client, "providers")

    for words in ("alpha", "KEY_OF_BETA is not set", "No credential", "encrypted in the database", "one-model", "gpt-x"):
        assert words in shown
    assert "sk-very-secret" not in shown
    assert "v1.x.y.z" not in shown


def test_without_a_provider_the_page_says_how_to_get_one(client: Client, empty_catalogue: None) -> None:
    assert "manage.py catalogue load" in page(client, "providers")


def test_prices_are_compared_first_and_appended_when_told(client: Client, empty_catalogue: None) -> None:
    assert "No price is kept yet" in page(client, "prices")
    assert "Apply" in page(client, "price_difference")
    assert not PriceVersion.objects.exists()

    assert client.post(reverse("platform:apply_prices")).headers["location"] == reverse("platform:prices")

    count = PriceVersion.objects.count()
    assert count > 100
    event = AuditEvent.objects.filter(action="prices.synced").latest("pk")
    assert (event.organization, event.after["changed"]) == (None, 0)
    assert "Up to date" in page(client, "price_difference")
    assert f"genai-prices {event.after['source'].split()[1]}" in page(client, "prices")
    again = client.post(reverse("platform:apply_prices"), follow=True).content.decode()
    assert "nothing to do" in again
    assert (PriceVersion.objects.count(), AuditEvent.objects.filter(action="prices.synced").count()) == (count, 1)


def test_a_changed_price_is_shown_as_it_was_and_as_it_would_be(client: Client, empty_catalogue: None) -> None:
    client.post(reverse("platform:apply_prices"))
    row = PriceVersion.objects.filter(sku="openai/gpt-4o").latest("valid_from")
    dearer = {**row.rates, "input": row.rates["input"] + 1_000_000_000}
    PriceVersion.objects.create(
        sku=row.sku, valid_from=timezone.now() - timedelta(hours=1), source="genai-prices 0.0.1 r1", rates=dearer
    )
    difference = client.get(reverse("platform:price_difference"), HTTP_HX_REQUEST="true").content.decode()
    assert "openai/gpt-4o" in difference
    assert "→" in difference
    assert "<html" not in difference


def test_a_price_without_a_beginning_is_given_no_date(client: Client, empty_catalogue: None) -> None:
    PriceVersion.objects.create(sku="openai/gpt-4o", valid_from=BEGINNING, source="the demo", rates={"input": 1, "output": 1})
    shown = page(client, "prices")
    assert "always in force" in shown
    assert "1970" not in shown + client.get(reverse("platform:price_difference")).content.decode()
    PriceVersion.objects.create(
        sku="openai/gpt-4o", valid_from=datetime(2026, 5, 1, tzinfo=UTC), source="the demo", rates={"input": 2}
    )
    assert "May 1, 2026" in page(client, "prices")


def test_the_system_page_shows_workers_queue_tasks_and_versions(
    client: Client, quiet: None, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    redis.client().set(counters.worker("one-of-the-tests"), "1", px=60_000)
    background.note_done(SimpleNamespace(name=TASK))
    with django_assert_max_num_queries(12):
        shown = page(client, "system")
    assert "with a lease" in shown
    assert "book-usage" in shown
    assert "On time" in shown
    assert "0 waiting" in shown
    assert "all run" in shown
    assert versions().postgresql in shown
    redis.client().delete(counters.worker("one-of-the-tests"))


def test_what_waits_says_since_when(quiet: None) -> None:
    headers: dict[str, Any] = {}
    background.note_queued(TASK, headers=headers)
    redis.client().lpush(background.QUEUE, json.dumps({"headers": headers}), json.dumps({"headers": {}}))
    found = background.background()
    assert found
    assert found.waiting == 2
    assert found.oldest_at
    assert found.oldest_at.timestamp() == pytest.approx(headers["queued_at"])
    task = next(one for one in found.scheduled if one.name == "book-usage")
    assert (bool(task.queued_at), task.done_at, task.late) == (True, None, False)


@pytest.mark.parametrize("message", [b"", b"x", b"[]", b'{"headers": null}', b'{"headers": {"queued_at": "soon"}}'])
def test_a_message_that_says_nothing_is_counted_all_the_same(quiet: None, message: bytes) -> None:
    redis.client().lpush(background.QUEUE, message)
    found = background.background()
    assert found
    assert (found.waiting, found.oldest_at) == (1, None)


def test_a_task_that_was_not_done_for_long_is_late(quiet: None) -> None:
    redis.client().hset(background.HEARTBEATS, f"done:{TASK}", time.time() - 10_000)
    found = background.background()
    assert found
    assert [one.name for one in found.scheduled if one.late] == ["book-usage"]


def test_tasks_outside_the_schedule_leave_no_trace(quiet: None) -> None:
    background.note_queued("somebody.elses", headers=None)
    background.note_done(None)
    assert not redis.client().exists(background.HEARTBEATS)


def test_workers_are_counted_while_their_leases_hold() -> None:
    before = alive_workers()
    redis.client().set(counters.worker("counted-by-a-test"), "1", px=60_000)
    assert (before, alive_workers()) == (before, (before or 0) + 1)
    redis.client().delete(counters.worker("counted-by-a-test"))


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found.missing_migrations == 0
    assert all(found[:5])
    assert found.gatehouse[0].isdigit()
