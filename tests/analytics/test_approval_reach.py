"""The approval of new models on the settings page: what it would stop is said before, and asked about once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from guardrails.requests import approve_model
from orgs.models import Organization
from orgs.services.keys import create_api_key
from orgs.services.organizations import change_settings
from proxy.models import Deployment, Model, Provider
from tests.actors import World, signed_in
from tests.ledger_rows import call_row, insert_calls, refused_row
from tests.orgs.test_settings_page import form_of, page_of

DAY = datetime(2026, 11, 20, tzinfo=UTC)
OFFERED = {"old": DAY - timedelta(days=9), "morning": DAY + timedelta(hours=8), "later": DAY + timedelta(days=5)}


@pytest.fixture
def called(empty_catalogue: None, world: World) -> World:
    """Three models; two keys called one that is first offered on the day itself."""
    provider = Provider.objects.create(name="reached", kind="sandbox")
    for name, moment in OFFERED.items():
        Deployment.objects.create(
            model=Model.objects.create(name=name, created_at=moment), provider=provider, upstream_model=name
        )
    now = timezone.now()
    noahs, _ = create_api_key(world.field, name="his", member=world.noah, by=world.actor("alice"))
    insert_calls(
        *(call_row(key, at=now, requested_model="morning") for key in (world.key, world.key, noahs)),
        call_row(world.key, at=now, requested_model="old"),
        refused_row(world.key, at=now, requested_model="later"),
        call_row(world.key, at=now - timedelta(days=40), requested_model="later"),
    )
    return world


def text(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def reach(world: World, **chosen: str) -> str:
    return text(signed_in(world, "alice").get(f"{page_of(world)}approval/", chosen).content.decode())


def save(client: Client, world: World, **changed: str) -> tuple[int, str]:
    answer = client.post(page_of(world), form_of(world, approval_required="on", **changed))
    return answer.status_code, answer.content.decode()


def since(world: World) -> datetime | None:
    return Organization.objects.get(pk=world.acme.pk).approval_since


def confirmation(page: str) -> str:
    found = re.search(r'name="confirm_approval" value="([^"]+)"', page)
    assert found
    return found[1]


def test_the_page_says_beforehand_what_a_day_would_stop(
    called: World, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    reach(called)  # what a session needs once is there
    with django_assert_max_num_queries(12):
        told = reach(called, approval_from="2026-11-20")
    assert (
        "2 of 3 models would need an approval: first offered since Nov 20, 2026, 00:00, and not approved for everybody." in told
    )
    assert "refused from then on until approved: morning 3 calls by 2 keys" in told
    assert "later" not in told
    assert "1 of 3 models would need" in reach(called, approval_from="2026-11-21")
    assert "None of it was called in the last 30 days." in reach(called, approval_from="2026-11-21")


@pytest.mark.parametrize("typed", ["", "soon", "0001-01-01"])
def test_without_a_day_only_models_to_come_need_one(called: World, typed: str) -> None:
    assert "0 of 3 models would need an approval" in reach(called, approval_from=typed)


def test_the_day_begins_in_the_time_zone_that_is_chosen(called: World) -> None:
    assert "2 of 3 models" in reach(called, approval_from="2026-11-20", time_zone="America/Santiago")
    assert "1 of 3 models" in reach(called, approval_from="2026-11-20", time_zone="Pacific/Pago_Pago")
    assert "2 of 3 models" in reach(called, approval_from="2026-11-20", time_zone="Mars/Olympus")


def test_what_is_stopped_is_asked_once_and_saved_when_that_is_confirmed(called: World) -> None:
    client = signed_in(called, "alice")
    status, page = save(client, called, approval_from="2026-11-20")
    assert (status, since(called)) == (422, None)
    assert "This stops calls at once" in page
    assert "1 model first offered since Nov 20, 2026, 00:00 would be refused" in text(page)
    assert "it answered 3 calls" in text(page)
    assert "Save, and refuse calls" in page
    assert 'value="2026-11-20"' in page

    assert save(client, called, approval_from="2026-11-20", confirm_approval=confirmation(page))[0] == 302
    assert since(called) == DAY
    assert "1 model first offered" not in client.get(page_of(called)).content.decode()
    assert "need an approval: first offered since" in reach(called, approval_from="2026-11-20")
    assert "would" not in reach(called, approval_from="2026-11-20")


def test_another_day_than_the_one_confirmed_is_asked_about_again(called: World) -> None:
    client = signed_in(called, "alice")
    token = confirmation(save(client, called, approval_from="2026-11-20")[1])
    status, page = save(client, called, approval_from="2026-11-01", confirm_approval=token)
    assert (status, since(called), confirmation(page) == token) == (422, None, False)


@pytest.mark.parametrize("day", ["", "2026-11-21", "2100-01-01"])
def test_where_nothing_in_use_is_stopped_nothing_is_asked(called: World, day: str) -> None:
    assert save(signed_in(called, "alice"), called, approval_from=day)[0] == 302


def test_only_what_the_change_stops_is_asked_about(called: World) -> None:
    change_settings(called.acme, by=called.actor("alice"), approval_since=DAY)
    client = signed_in(called, "alice")
    assert save(client, called, approval_from="2026-11-20", reset_hour="4")[0] == 302
    asked = text(save(client, called, approval_from="2026-11-01", reset_hour="4")[1])
    assert "old 1 call by 1 key" in asked
    assert "morning" not in asked


def test_what_is_approved_for_everybody_is_not_stopped_and_for_some_is_said(called: World) -> None:
    change_settings(called.acme, by=called.actor("alice"), approval_since=DAY - timedelta(days=30))
    approve_model("morning", group=called.acme.root, by=called.actor("alice"))
    approve_model("old", group=called.engineering, by=called.actor("alice"))
    change_settings(called.acme, by=called.actor("alice"), approval_since=None)
    told = reach(called, approval_from="2026-11-01")
    assert "2 of 3 models" in told
    assert "morning" not in told
    assert "old 1 call by 1 key; approved for engineering" in told
