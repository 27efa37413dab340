"""A charge that was taken back, as whatever reads the ledger tells it: the call stays, its money is gone everywhere."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from analytics.filters import Filters, Scope, period_named
from analytics.savings import Savings, preset_use, savings_of
from analytics.selectors import key_use, member_use
from analytics.usage import Sums, usage_of
from billing import adjusting, counts
from billing.buckets import spend_sums, spent_since
from billing.rows import Row
from gateway_project.lib.money import parse_usd
from guardrails.windows import Calendar
from tests.actors import World, make_world, signed_in
from tests.analytics.test_rollups import roll_up_everything
from tests.apis import api
from tests.billing.rows import close_everything
from tests.ledger_rows import call_row, insert_calls

CENT = 10**7
AUTO = {"auto": {"asked": "auto", "need": 0.2, "model": "m", "others": []}}


def given_back(world: World) -> tuple[Row, Row]:
    """A call that `auto` chose a model for, with something read from a cache; and the row that takes its charge back."""
    call = call_row(
        world.key, charged_nano_usd=3 * CENT, list_nano_usd=3 * CENT, baseline_nano_usd=9 * CENT, cache_read_tokens=400,
        cache_saving_nano_usd=CENT, preset="polite", decision=AUTO,
    )  # fmt: skip
    return call, adjusting.taken_back(call)


def savings(world: World) -> Savings:
    return savings_of(Scope.of(world.actor("alice")), now=timezone.now(), calendar=Calendar.of(world.acme))


def test_every_sum_is_as_if_it_had_cost_nothing_rolled_up_or_not(committed_db: None) -> None:
    world = make_world()
    insert_calls(*given_back(world))
    now = timezone.now()
    scope, period = Scope.of(world.actor("alice")), period_named("24h", now=now, calendar="UTC")
    month = {"since": now - timedelta(days=30), "until": now + timedelta(hours=1)}

    def told() -> None:
        usage = usage_of(scope, period=period, filters=Filters(), level=1)
        assert usage.total == Sums(calls=1)
        assert [share.sums for share in usage.members] == [Sums(calls=1)]
        of_months = savings(world)
        assert (of_months.now.routed, of_months.now.cached, of_months.now.hits, of_months.now.input) == (0, 0, 0, 0)
        assert of_months.routed_calls == 1
        assert {part.label: part.saved.calls for part in of_months.complexities} == {"Simple": 1, "Complex": 0, "Named": 0}
        [of_key] = key_use(world.acme.pk, keys=[world.key.pk], **month)
        [of_member] = member_use(scope, members=[world.mia.pk], **month)
        assert (of_key.spent_nano_usd, of_member.spent_nano_usd, of_member.calls) == (0, 0, 1)
        [of_preset] = preset_use(world.acme.pk, presets={1: ("polite", world.root.pk)}, **month)
        assert (of_preset.calls, of_preset.list_nano_usd) == (1, 0)
        subjects = ["pool", "org", f"k{world.key.pk}", f"m{world.mia.pk}", f"g{world.gateway.pk}"]
        assert {spend.charged for spend in spend_sums(world.acme.pk, subjects=subjects).lifetime.values()} == {0}
        assert {spend.charged for spend in spent_since(world.acme.pk, {(one, None) for one in subjects}).values()} == {0}

    told()
    roll_up_everything()
    close_everything()
    told()


@pytest.fixture
def rows(world: World) -> tuple[Row, Row]:
    found = given_back(world)
    insert_calls(*found)
    return found


def test_it_is_no_second_call_of_the_day(world: World, rows: tuple[Row, Row]) -> None:
    since = round((timezone.now() - timedelta(hours=1)).timestamp() * 1000)
    for subject in ("org", f"k{world.key.pk}", f"g{world.engineering.pk}"):
        with connection.cursor() as cursor:
            cursor.execute(counts.CALLS_SQL, counts.calls_parameters(world.acme.pk, subject=subject, since_ms=since))
            assert cursor.fetchone() == (1,), subject


def test_both_stand_in_the_log_and_its_file_comes_to_nothing(world: World, rows: tuple[Row, Row]) -> None:
    page = signed_in(world).get(f"/o/{world.acme.slug}/calls/").content.decode()
    assert "Adjustment" in page
    assert all(str(row.call_id) in page for row in rows)
    answer: Any = signed_in(world).get(f"/o/{world.acme.slug}/calls/file/")
    lines = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert sorted(line["status"] for line in lines) == ["adjustment", "ok"]
    assert sum(parse_usd(line["cost_usd"]) for line in lines) == 0
    assert sum(int(line["input_tokens"]) + int(line["cache_read_tokens"]) + int(line["output_tokens"]) for line in lines) == 0


def shown(client: Client, world: World, row: Row) -> str:
    answer = client.get(f"/o/{world.acme.slug}/calls/{row.call_id}/")
    assert answer.status_code == 200
    return " ".join(unescape(answer.content.decode()).split())


def test_the_page_of_what_was_taken_back_speaks_of_no_saving(world: World, rows: tuple[Row, Row]) -> None:
    client = signed_in(world)
    call, back = (shown(client, world, row) for row in rows)
    assert "$0.06" in call, "what the baseline would have cost more"
    assert "$0.06" not in back
    assert "-$0.03" in back
    assert f"Takes back what call {rows[0].call_id} was charged." in back
    assert "Takes back" not in call


def test_the_api_tells_both_and_narrows_to_either(world: World, rows: tuple[Row, Row]) -> None:
    ask = api(world, "alice")
    assert sum(int(one["charged_nano_usd"]) for one in ask("get", "/ledger")["data"]) == 0
    [back] = ask("get", "/ledger?status=adjustment")["data"]
    assert (back["call_id"], back["charged_nano_usd"], back["input_tokens"]) == (str(rows[1].call_id), str(-3 * CENT), -1000)
    assert ask("get", "/usage?period=24h")["total"]["charged_nano_usd"] == "0"
    assert [one["status"] for one in ask("get", "/ledger?status=ok")["data"]] == ["ok"]
