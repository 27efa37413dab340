"""The audit log's page, one event, its export and its verification."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from html import unescape

import pytest
from django.test import AsyncClient
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries
from pytest_django.plugin import DjangoDbBlocker

from orgs.audit import Value, audit
from orgs.audit_export import COLUMNS
from orgs.audit_selectors import events_visible_to
from orgs.audit_words import action_words, changes_of
from orgs.chain import link
from orgs.models import AuditEvent, Organization
from orgs.permissions import RoleName
from orgs.services.groups import create_group
from orgs.services.members import grant_role
from orgs.services.organizations import change_settings
from tests.actors import World, make_world, make_world_by_services, signed_in
from tests.orgs.test_verification import past_the_guards
from tests.world import lasting


@pytest.fixture(scope="module")
def by_services(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """With the events that the services wrote as they made it."""
    with lasting(make_world_by_services, django_db_blocker) as made:
        yield made


@pytest.fixture
def world(by_services: World, db: None) -> World:
    return deepcopy(by_services)


def url(world: World, name: str = "list", **arguments: int) -> str:
    return reverse(f"audit:{name}", kwargs={"org": world.acme.slug, **arguments})


def shown(world: World, name: str, **query: str) -> list[int]:
    """Places of the events in the list, as shown."""
    text = signed_in(world, name).get(url(world), query).content.decode()
    return [int(place) for place in re.findall(r'data-row-link href="/o/[^/]+/audit/(\d+)/"', text)]


def all_of(world: World, **wanted: object) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(organization=world.acme, **wanted).order_by("-sequence"))


def lines(response: object) -> str:
    return b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]


def test_a_super_admin_sees_everything_newest_first_in_few_statements(
    world: World, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = signed_in(world, "alice")
    client.get(url(world))  # the session notes the organisation
    with django_assert_max_num_queries(12):
        text = unescape(client.get(url(world)).content.decode())
    assert shown(world, "alice") == [event.sequence for event in all_of(world)]
    assert "API key created" in text
    assert "Not verified yet" in text
    assert world.other.name not in text


def test_an_admin_sees_what_is_about_its_node_and_below_and_what_it_did(world: World) -> None:
    create_group(world.sales, name="elsewhere in Acme", by=world.actor("alice"))
    change_settings(world.acme, week_start=3, by=world.actor("alice"))
    seen = set(events_visible_to(world.actor("sam")))
    groups = {world.platform, world.gateway, world.core}
    assert seen == {event for event in all_of(world) if event.group in groups}
    grant_role(world.mia, role=RoleName.AUDITOR, group=world.gateway, by=world.actor("sam"))
    audit("thing.done", by=world.actor("sam"), target=world.acme)
    assert {event.action for event in events_visible_to(world.actor("sam"))} >= {"thing.done", "role.granted"}
    assert {event.group for event in events_visible_to(world.actor("mia"))} == {world.gateway, world.core}
    assert list(events_visible_to(world.actor("charlie")).filter(organization=world.acme)) == []


def test_filters_narrow_and_stay_in_the_url(world: World) -> None:
    mias = [event.sequence for event in all_of(world, actor=world.mia)]
    key = f"apikey:{world.key.pk}"
    assert shown(world, "alice", actor=str(world.mia.pk)) == mias
    assert shown(world, "alice", action="key.created") == shown(world, "alice", target=key) == mias
    assert shown(world, "alice", q="ASSISTANT") == [event.sequence for event in all_of(world, object_type="application")]
    assert shown(world, "alice", q=world.mia.email) == mias
    assert shown(world, "alice", q="no such thing") == []
    text = signed_in(world, "alice").get(url(world), {"target": key, "period": "7d", "q": "key"}).content.decode()
    assert "API key: Mia&#x27;s key" in text
    assert "format=csv" in text
    assert f"target=apikey%3A{world.key.pk}" in text


@pytest.mark.parametrize(
    "query", ["actor=x&before=x", "period=century", "q=%00", "actor=99999999999999999999", "after=0", "target=:"]
)
def test_what_makes_no_sense_in_the_url_is_left_out(world: World, query: str) -> None:
    assert signed_in(world, "alice").get(f"{url(world)}?{query}").status_code == 200


def test_pages_lead_to_older_and_newer_ones(world: World) -> None:
    for number in range(60):
        audit("thing.done", by=world.actor("alice"), target=world.sales, after={"number": number})
    every = [event.sequence for event in all_of(world)]
    first = shown(world, "alice")
    second = shown(world, "alice", before=str(first[-1]))
    assert first + second == every
    assert shown(world, "alice", after=str(second[0])) == first


def test_one_event_tells_before_and_after_and_its_place(world: World) -> None:
    before: dict[str, Value] = {"name": "old", "group": world.gateway.pk, "gone": True, "kept": "x"}
    after: dict[str, Value] = {"name": "<b>new</b>", "group": world.core.pk, "limit_nano_usd": 5_000_000_000, "kept": "x"}
    event = audit("key.moved", by=world.actor("sam"), target=world.key, before=before, after=after)
    assert [tuple(change) for change in changes_of(event)] == [
        ("Name", "old", "<b>new</b>", "changed"),
        ("Group", "gateway", "core", "changed"),
        ("Gone", "yes", "", "removed"),
        ("Kept", "x", "x", "same"),
        ("Limit", "", "$5.00", "added"),
    ]
    client = signed_in(world, "sam")
    page = client.get(url(world, "event", sequence=event.sequence))
    drawer = client.get(url(world, "event", sequence=event.sequence), headers={"HX-Request": "true"})
    for text in (page.content.decode(), drawer.content.decode()):
        assert "<del>old</del>" in text
        assert "&lt;b&gt;new&lt;/b&gt;" in text
        assert event.hash in text
    assert "<html" not in drawer.content.decode()
    assert f'<a href="{url(world)}">Audit log</a>' in page.content.decode()
    assert "Audit log" not in drawer.content.decode()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-10-31T23:00:00+00:00", "Nov 1, 2026, 00:00:00 CET"),
        ("2026-07-01T12:30:05.123456+00:00", "Jul 1, 2026, 14:30:05 CEST"),
        ("2026-07-01T12:30:05+02:00", "Jul 1, 2026, 12:30:05 CEST"),
        ("2026-10-31", "2026-10-31"),
        ("2026-10-31T23:00:00", "2026-10-31T23:00:00"),
        ("2026-10-31T23:00:00+00:00 and more", "2026-10-31T23:00:00+00:00 and more"),
        ("2026-99-31T23:00:00+00:00", "2026-99-31T23:00:00+00:00"),
    ],
)
def test_moments_are_told_by_the_clock_of_the_organisation(world: World, written: str, read: str) -> None:
    Organization.objects.filter(pk=world.acme.pk).update(time_zone="Europe/Berlin")
    event = audit("key.changed", by=world.actor("sam"), target=world.key, before={}, after={"until": written, "all": [written]})
    page = signed_in(world, "sam").get(url(world, "event", sequence=event.sequence)).content.decode()
    assert page.count(f"<ins>{read}</ins>") == 2


def test_an_event_out_of_reach_is_absent(world: World) -> None:
    client = signed_in(world, "sam")
    for event in all_of(world):
        code = client.get(url(world, "event", sequence=event.sequence)).status_code
        assert code == (200 if event in events_visible_to(world.actor("sam")) else 404)
    assert client.get(url(world, "event", sequence=10**9)).status_code == 404
    assert client.get(f"/o/{world.acme.slug}/audit/{10**30}/").status_code == 404


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("key.created", "API key created"),
        ("provider_key.tested", "Provider key tested"),
        ("policy.usage_reset", "Policy usage reset"),
        ("nothing", "Nothing"),
    ],
)
def test_actions_are_readable(action: str, words: str) -> None:
    assert action_words(action) == words


def test_the_csv_is_exactly_what_is_shown_and_no_formula(world: World) -> None:
    sly = create_group(world.sales, name="=HYPERLINK(1)", by=world.actor("alice"))
    shown_places = shown(world, "alice", q="HYPERLINK")
    text = lines(signed_in(world, "alice").get(url(world, "export"), {"q": "HYPERLINK"}))
    [row] = csv.DictReader(io.StringIO(text))
    assert tuple(row) == COLUMNS
    assert ([int(row["sequence"])], row["object_label"], row["group"]) == (shown_places, "'=HYPERLINK(1)", "'=HYPERLINK(1)")
    assert json.loads(row["after"]) == {"name": sly.name, "parent": world.sales.pk}
    assert row["actor_email"] == world.alice.email


def test_json_lines_can_be_verified_elsewhere(world: World) -> None:
    client = signed_in(world, "alice")
    response = client.get(url(world, "export"), {"format": "jsonl", "period": "all"})
    assert response.headers["content-disposition"].endswith('.jsonl"')
    found = [json.loads(line) for line in lines(response).splitlines()]
    last = "0" * 64
    for one in found:
        last = link(last, one["facts"])
        assert last == one["hash"]
    [*_, newest] = all_of(world)[::-1]
    assert (newest.action, newest.after["format"], newest.sequence) == ("audit.exported", "jsonl", len(found) + 1)


def test_who_exports_gets_no_more_than_the_page_shows(world: World) -> None:
    text = lines(signed_in(world, "sam").get(url(world, "export"), {"format": "jsonl"}))
    places = [json.loads(line)["facts"]["sequence"] for line in text.splitlines()]
    assert places == [event.sequence for event in events_visible_to(world.actor("sam")).order_by("sequence")][: len(places)]
    assert len(places) == len(shown(world, "sam")) - 1  # the export itself came after


def test_the_server_streams_it(committed_db: None) -> None:
    from asgiref.sync import async_to_sync

    world = make_world()

    async def fetched() -> list[bytes]:
        client = AsyncClient()
        await client.aforce_login(world.alice)
        response = await client.get(url(world, "export"), {"format": "csv"})
        return [part async for part in response.streaming_content]  # type: ignore[attr-defined]

    head, *parts = async_to_sync(fetched)()
    assert head.decode().strip() == ",".join(COLUMNS)
    assert len(b"".join(parts).splitlines()) == len(all_of(world)) - 1


def test_verifying_shows_what_was_found(world: World) -> None:
    client = signed_in(world, "alice")
    assert client.post(url(world, "verify")).headers["location"] == url(world)
    assert "Chain verified" in client.get(url(world)).content.decode()
    past_the_guards("UPDATE orgs_auditevent SET action = 'x' WHERE organization_id = %s AND sequence = 2", world.acme.pk)
    text = client.post(url(world, "verify"), headers={"HX-Request": "true"}).content.decode()
    assert "Chain broken" in text
    assert "event 2 was changed or moved" in text
    assert "<html" not in text
    assert "Chain broken" in signed_in(world, "sam").get(url(world)).content.decode()


def test_only_who_reads_the_whole_trail_verifies_it(world: World) -> None:
    assert "Verify now" in signed_in(world, "alice").get(url(world)).content.decode()
    assert "Verify now" not in signed_in(world, "lena").get(url(world)).content.decode()
