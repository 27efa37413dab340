"""Filters that combine: whatever is asked at once, log, file, API and overview show the same calls, and none beside."""

from __future__ import annotations

import csv
import io
import itertools
from copy import deepcopy
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from billing.rows import Row
from orgs.services.keys import create_api_key
from tests.actors import World, signed_in
from tests.apis import api
from tests.ledger_rows import call_row, insert_calls, refused_row

NAMES = ("group", "member", "key", "model", "status", "preset", "reason")


@pytest.fixture
def world(db: None, lasting_world: World) -> World:
    return deepcopy(lasting_world)


@pytest.fixture
def rows(world: World) -> list[Row]:
    """Of two keys in two branches, one call of each kind: models, presets and ways to end."""
    now, noahs = timezone.now(), create_api_key(world.field, name="his", member=world.noah, by=world.actor("alice"))[0]
    found: list[Row] = []
    for key, model, preset in itertools.product((world.key, noahs), ("small", "large"), ("", "polite")):
        said: dict[str, Any] = {"at": now - timedelta(minutes=len(found)), "requested_model": model, "preset": preset}
        found += [
            call_row(key, **said),
            call_row(key, **said, status="failed", error_code="provider_error", charged_nano_usd=0),
            call_row(key, **said, status="failed", error_code="provider_timeout", charged_nano_usd=0),
            refused_row(key, **said),
        ]
    insert_calls(*found)
    return found


def value(world: World, row: Row, name: str) -> object:
    """What a filter must say to find this row."""
    return {
        "group": row.group1_id, "member": row.member_id, "key": row.api_key_id, "model": row.requested_model,
        "status": row.status, "preset": row.preset, "reason": row.error_code,
    }[name]  # fmt: skip


def fits(row: Row, asked: dict[str, object], world: World) -> bool:
    return all(value(world, row, name) == wanted for name, wanted in asked.items())


def in_log(world: World, query: str) -> set[str]:
    page: Any = signed_in(world).get(f"/o/{world.acme.slug}/calls/?{query}")
    return {row.url.rstrip("/").rpartition("/")[2] for row in page.context["rows"]}


def in_file(world: World, query: str) -> set[str]:
    answer: Any = signed_in(world).get(f"/o/{world.acme.slug}/calls/file/?{query}")
    return {line["call_id"] for line in csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))}


def chosen(world: World, rows: list[Row], number: int) -> dict[str, object]:
    """The filters that the bits of a number name, as one of the rows has them; what is empty there is no filter."""
    row = rows[number % len(rows)]
    said = {name: value(world, row, name) for bit, name in enumerate(NAMES) if number >> bit & 1}
    return {name: wanted for name, wanted in said.items() if wanted not in (None, "")}


@pytest.mark.parametrize("number", [0, 21, 38, 75, 94, 107, 127])
def test_whatever_is_asked_at_once_all_of_them_show_the_same(world: World, rows: list[Row], number: int) -> None:
    asked = chosen(world, rows, number)
    query, expected = urlencode(asked), {str(row.call_id) for row in rows if fits(row, asked, world)}
    assert expected
    assert in_log(world, query) == in_file(world, query) == expected
    ledger = api(world, "alice")("get", f"/ledger?{query}&limit=100")["data"]
    assert {one["call_id"] for one in ledger} == expected
    sums = {name: wanted for name, wanted in asked.items() if name != "reason"}  # which sums do not know
    total = api(world, "alice")("get", f"/usage?{urlencode(sums)}")["total"]
    assert int(total["charged_nano_usd"]) == sum(row.charged_nano_usd for row in rows if fits(row, sums, world))
    assert total["calls"] == sum(fits(row, sums, world) for row in rows)


def test_filters_that_contradict_each_other_find_nothing(world: World, rows: list[Row]) -> None:
    for asked in (
        {"member": world.noah.pk, "key": world.key.pk},
        {"group": world.sales.pk, "member": world.mia.pk},
        {"status": "ok", "reason": "provider_error"},
        {"status": "refused", "reason": "provider_timeout"},
        {"group": world.other.root.pk},
    ):
        assert in_log(world, urlencode(asked)) == in_file(world, urlencode(asked)) == set(), asked


def test_no_filter_shows_a_person_more_than_it_sees_without(world: World, rows: list[Row]) -> None:
    theirs = {str(row.call_id) for row in rows if row.member_id == world.mia.pk}
    for asked in ({"member": world.noah.pk}, {"group": world.root.pk}, {"group": world.sales.pk}, {"model": "small"}, {}):
        seen: Any = signed_in(world, "mia").get(f"/o/{world.acme.slug}/calls/", asked)
        ids = {row.url.rstrip("/").rpartition("/")[2] for row in seen.context["rows"]}
        assert ids <= theirs, asked
    assert ids == theirs


@pytest.mark.parametrize("wrong", ["reason=nonsense", "status=adjustment", "key=-1", "member=x", "group=99999999999999999999"])
def test_what_makes_no_sense_is_left_out_and_the_rest_holds(world: World, rows: list[Row], wrong: str) -> None:
    expected = {str(row.call_id) for row in rows if row.requested_model == "small" and row.preset}
    assert in_log(world, f"model=small&preset=polite&{wrong}") == expected
    assert in_file(world, f"{wrong}&model=small&preset=polite") == expected


def test_a_period_narrows_with_the_others_and_a_page_goes_on_within_them(world: World) -> None:
    now = timezone.now()
    insert_calls(
        *(call_row(world.key, at=now - timedelta(minutes=at), requested_model="small") for at in range(60)),
        *(call_row(world.key, at=now - timedelta(minutes=at), requested_model="large") for at in range(60)),
        call_row(world.key, at=now - timedelta(days=3), requested_model="small"),
    )
    client, path = signed_in(world), f"/o/{world.acme.slug}/calls/"
    page: Any = client.get(path, {"period": "24h", "model": "small"})
    further: Any = client.get(path + page.context["older_url"])
    rows = [*page.context["rows"], *further.context["rows"]]
    assert (len(page.context["rows"]), len({row.url for row in rows}), {row.model for row in rows}) == (50, 60, {"small"})
    assert further.context["older_url"] is None
    assert len(in_file(world, "period=24h&model=small")) == 60
    assert len(in_file(world, "period=7d&model=small")) == 61


def test_a_log_that_follows_hears_only_of_what_all_its_filters_show(world: World) -> None:
    said = {"live": "1", "model": "small", "status": "failed", "reason": "provider_error", "preset": "polite"}
    client, path = signed_in(world), f"/o/{world.acme.slug}/calls/"
    poll = client.get(path, said).context["live"].poll_url
    wanted: dict[str, Any] = {"requested_model": "small", "status": "failed", "error_code": "provider_error", "preset": "polite"}

    def hears() -> int:
        return client.get(path + poll, headers={"hx-request": "true"}).status_code

    for name, other in (("requested_model", "large"), ("status", "cut"), ("error_code", "provider_timeout"), ("preset", "")):
        insert_calls(call_row(world.key, **{**wanted, name: other}))
        assert hears() == 204, name
    insert_calls(call_row(world.key, **wanted))
    assert hears() == 200
