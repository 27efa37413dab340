"""The call log as a file: exactly what its filters show, on whatever page, exact and harmless to open."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import AsyncRequestFactory
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from analytics import call_export
from billing.models import UsageRecord
from gateway_project.lib.exports import streamed
from gateway_project.lib.money import parse_usd
from orgs.models import AuditEvent, Membership
from tests.actors import World, signed_in
from tests.ledger_rows import a_call, call_row, insert_calls, refused_row


def taken(world: World, name: str = "alice", query: str = "") -> list[dict[str, str]]:
    answer: Any = signed_in(world, name).get(f"/o/{world.acme.slug}/calls/file/{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="calls-[\w-]+\.csv"', answer.headers["content-disposition"])
    return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))


def test_every_page_of_the_log_is_in_it_newest_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_export, "BATCH", 7)
    insert_calls(*(call_row(world.key) for _ in range(60)))
    ids = [line["call_id"] for line in taken(world)]
    rows = UsageRecord.objects.filter(organization=world.acme).order_by("-pk")
    assert ids == [str(pk) for pk in rows.values_list("pk", flat=True)]


def test_a_line_says_who_where_what_and_the_exact_amount(world: World) -> None:
    world.key.application, world.key.environment = world.assistant, "production"
    a_call(world.key, requested_model="our-model", feature="answers", charged_nano_usd=123_456_789)
    [line] = taken(world)
    assert line["group"] == f"{world.acme.name} / engineering / platform / gateway"
    assert (line["member"], line["member_email"], line["api_key"]) == ("Mia", world.mia.email, world.key.name)
    assert (line["application"], line["feature"], line["environment"]) == ("Assistant", "answers", "production")
    row = UsageRecord.objects.get(organization=world.acme)
    assert (line["model"], line["status"]) == ("our-model", row.status)
    assert parse_usd(line["cost_usd"]) == 123_456_789
    assert {name: int(line[name]) for name in call_export.NUMBERS} == {name: getattr(row, name) for name in call_export.NUMBERS}


def test_sums_are_those_of_the_ledger(world: World) -> None:
    insert_calls(*(call_row(world.key, charged_nano_usd=cost) for cost in (1, 999_999_999, 3)), refused_row(world.key))
    assert sum(parse_usd(line["cost_usd"]) for line in taken(world)) == 1_000_000_003


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 3),
        ("?status=refused", 1),
        ("?model=other", 1),
        ("?period=24h", 3),
        ("?q=nothing-like-it", 0),
        (f"?q={'0' * 200}", 0),
        (f"?q=req_{'my request is '}{'f' * 40}", 0),
        ("?before=x&live=1", 3),
    ],
)
def test_filters_hold(world: World, query: str, count: int) -> None:
    insert_calls(call_row(world.key), call_row(world.key, requested_model="other"), refused_row(world.key))
    assert len(taken(world, query=query)) == count


@pytest.mark.parametrize(("name", "count"), [("alice", 2), ("sam", 1), ("mia", 1), ("noah", 0)])
def test_each_takes_only_what_the_log_shows_them(world: World, name: str, count: int) -> None:
    insert_calls(
        call_row(world.key), call_row(world.key, group1_id=world.sales.pk, group2_id=None, group3_id=None, member_id=None)
    )
    assert len(taken(world, name)) == count


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx"])
def test_what_a_spreadsheet_would_run_is_text(world: World, name: str) -> None:
    a_call(world.key, requested_model=name)
    assert [line["model"] for line in taken(world)] == [f"'{name}"]


@pytest.mark.parametrize(
    "name", ['say "hi", twice', "a,b;c", "line\nline", "l\rr", "'=1+1", "\u2028=1", "Zürich\t\U0001f600", '"']
)
def test_whatever_people_are_called_comes_back_as_one_cell(world: World, name: str) -> None:
    world.key.name = name
    world.key.save()
    a_call(world.key)
    [line] = taken(world)
    assert line["api_key"] == name
    assert None not in line, "no cell beyond the last column"


def test_what_is_called_while_it_is_taken_shifts_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_export, "BATCH", 2)
    ids = sorted(insert_calls(*(call_row(world.key) for _ in range(7))), reverse=True)
    begun = call_export.parts(UsageRecord.objects.filter(organization=world.acme), organization=world.acme)
    lines = next(begun) + next(begun)
    a_call(world.key, at=timezone.now() + timedelta(seconds=1))
    lines += "".join(begun)
    assert [line["call_id"] for line in csv.DictReader(io.StringIO(lines))] == [str(one) for one in ids]


def test_who_leaves_in_the_middle_makes_nobody_read_on() -> None:
    read: list[int] = []

    def parts() -> Iterator[str]:
        for number in range(9):
            read.append(number)
            yield f"{number}\n"

    async def leave() -> bytes:
        request = AsyncRequestFactory().get("/")
        answer: Any = streamed(parts(), content_type="text/csv", name="calls.csv", request=request)
        stream = answer.streaming_content
        first = await anext(stream)
        await stream.aclose()
        return bytes(first)

    assert asyncio.run(leave()) == b"0\n"
    assert read == [0]


def test_the_page_leads_to_it_with_its_filters_and_not_to_a_page_of_it(world: World) -> None:
    page = signed_in(world, "alice").get(f"/o/{world.acme.slug}/calls/?status=failed&live=1").content.decode()
    [address] = re.findall(r'href="([^"]*/calls/file/[^"]*)"', page)
    assert unescape(address) == f"/o/{world.acme.slug}/calls/file/?status=failed"


def test_whoever_takes_it_stands_in_the_trail(world: World) -> None:
    a_call(world.key)
    taken(world, "sam", "?status=failed&period=24h&reason=provider_error&q=0190")
    event = AuditEvent.objects.get(organization=world.acme, action="calls.exported")
    assert event.actor == world.sam
    assert event.after == {"period": "24h", "status": "failed", "reason": "provider_error", "request_id": "0190"}


def test_who_looks_as_somebody_else_takes_what_that_one_sees_in_the_own_name(world: World) -> None:
    a_call(world.key)
    a_call(world.key, group1_id=world.sales.pk, group2_id=None, group3_id=None, member_id=None)
    client = signed_in(world, "alice")
    client.post(f"/o/{world.acme.slug}/view-as/{Membership.objects.get(user=world.mia, organization=world.acme).pk}/")
    answer: Any = client.get(f"/o/{world.acme.slug}/calls/file/")
    assert len(list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))) == 1
    event = AuditEvent.objects.get(organization=world.acme, action="calls.exported")
    assert event.actor == world.alice


def test_a_look_at_its_head_takes_nothing(world: World) -> None:
    signed_in(world, "alice").head(f"/o/{world.acme.slug}/calls/file/")
    assert not AuditEvent.objects.filter(organization=world.acme, action="calls.exported").exists()


def test_a_batch_is_one_statement(
    world: World, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr(call_export, "BATCH", 10)
    insert_calls(*(call_row(world.key) for _ in range(30)))
    with django_assert_max_num_queries(5):
        list(call_export.parts(UsageRecord.objects.filter(organization=world.acme), organization=world.acme))
