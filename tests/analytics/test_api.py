"""Usage and the ledger by the API: of which days, of whom, and nothing beside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from orgs.services.keys import create_api_key
from orgs.services.organizations import change_settings
from tests.actors import World
from tests.apis import api
from tests.ledger_rows import call_row, insert_calls

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def test_the_sums_of_days_are_those_of_the_organisations_calendar(world: World) -> None:
    change_settings(world.acme, by=world.actor("alice"), time_zone="Asia/Kolkata")
    rows = [call_row(world.key, at=NOON + timedelta(hours=hours)) for hours in (-24, 6, 7)]
    insert_calls(*rows)
    ask = api(world, "alice")
    # 18:00 UTC is 23:30 there, 19:00 is the next day.
    found = ask("get", "/usage?first_day=2026-11-09&last_day=2026-11-10")
    assert (found["starts_at"], found["ends_at"]) == ("2026-11-08T18:30:00Z", "2026-11-10T18:30:00Z")
    assert [slot["sums"]["calls"] for slot in found["slots"]] == [1, 1]
    after = ask("get", "/usage?first_day=2026-11-11&last_day=2026-11-12&level=3")
    assert (after["total"]["calls"], after["before"]["calls"]) == (1, 2)
    assert after["total"]["charged_nano_usd"] == str(rows[2].charged_nano_usd)
    assert [share["id"] for share in after["groups"]] == [str(world.gateway.pk)]
    assert len(ask("get", f"/usage?first_day={timezone.now().date() - timedelta(days=2)}")["slots"]) in (3, 4)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("last_day=2026-03-01", "first_day"),
        ("first_day=2026-03-02&last_day=2026-03-01", "last_day"),
        ("first_day=2024-01-01&last_day=2025-06-01", "last_day"),
        ("first_day=2001-01-01", "first_day"),
        ("first_day=2098-01-01", "first_day"),
        ("first_day=0001-01-01&last_day=0001-01-02", "first_day"),
        ("first_day=2026-02-30", "first_day"),
        ("level=0", "level"),
        ("group=x", "group"),
    ],
)
def test_days_that_make_no_sense_are_refused(world: World, query: str, param: str) -> None:
    assert api(world, "alice")("get", f"/usage?{query}", status=422)["error"]["param"] == param


def test_the_ledger_is_narrowed_and_goes_on(world: World) -> None:
    spare, _ = create_api_key(world.field, name="Spare", member=world.noah, by=world.actor("noah"))
    rows = [call_row(world.key, at=NOON + timedelta(hours=hour)) for hour in range(4)]
    rows[3].status, rows[3].requested_model, rows[3].error_code = "failed", "other", "provider_timeout"
    insert_calls(*rows, call_row(spare, at=NOON))
    ask, ids = api(world, "alice"), [str(row.call_id) for row in rows]

    def found(query: str) -> list[str]:
        return [one["call_id"] for one in ask("get", f"/ledger?{query}")["data"]]

    key = f"key={world.key.pk}"
    assert found(key) == found(f"member={world.mia.pk}") == found(f"group={world.engineering.pk}") == ids[::-1]
    assert found(f"{key}&since=2026-11-10T13:00:00Z&until=2026-11-10T15:00:00%2B00:00") == [ids[2], ids[1]]
    assert found(f"{key}&status=failed") == found(f"{key}&model=other") == [ids[3]]
    assert found(f"{key}&reason=provider_timeout") == [ids[3]]
    assert found(f"{key}&reason=budget_exceeded") == []
    page = ask("get", f"/ledger?{key}&limit=3")
    assert [one["call_id"] for one in page["data"]] == ids[:0:-1]
    assert found(f"{key}&limit=3&cursor={page['next_cursor']}") == [ids[0]]
    assert api(world, "mia")("get", f"/ledger?key={spare.pk}")["data"] == []


def test_a_reason_that_no_call_has_is_refused(world: World) -> None:
    told = api(world, "alice")("get", "/ledger?reason=nonsense", status=422)["error"]
    assert told["param"] == "reason"


def test_a_call_tells_its_route_with_the_alternatives_and_what_its_prompt_cache_did(world: World) -> None:
    decision = {
        "auto": {"asked": "auto", "need": 0.312, "model": "small", "others": [["large", "dearer than the request needs"]]},
        "order": [["p", "small-1", "weight"], ["q", "small-2", "circuit open"]],
    }
    told, plain = (
        call_row(
            world.key, at=NOON, decision=decision, route_reason="weight", input_tokens=100, cache_read_tokens=850,
            cache_write_5m_tokens=50, cache_saving_nano_usd=-(2**60), baseline_nano_usd=2**61,
        ),
        call_row(world.key, at=NOON, input_tokens=0, output_tokens=0),
    )  # fmt: skip
    insert_calls(told, plain)
    ask = api(world, "mia")

    found = ask("get", f"/ledger/{told.call_id}")

    assert found["route"] == {
        "reason": "weight",
        "auto": {
            "asked": "auto", "need": 0.312, "model": "small",
            "alternatives": [{"model": "large", "reason": "dearer than the request needs"}],
        },
        "order": [
            {"provider": "p", "model": "small-1", "reason": "weight"},
            {"provider": "q", "model": "small-2", "reason": "circuit open"},
        ],
    }  # fmt: skip
    assert found["cache_hit_rate"] == 0.85
    assert (found["cache_saving_nano_usd"], found["baseline_nano_usd"]) == (str(-(2**60)), str(2**61))
    without = ask("get", f"/ledger/{plain.call_id}")
    assert without["route"] == {"reason": "only", "auto": None, "order": []}
    assert (without["cache_hit_rate"], without["baseline_nano_usd"], without["cache_saving_nano_usd"]) == (None, None, "0")
