"""Savings by month, by how a model was chosen and by group; the use of presets; both through HTTP and from the rollups."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.call_story import Stop, story_of
from analytics.filters import Scope
from analytics.savings import MONTHS, Saved, Savings, preset_use, savings_of
from billing.models import UsageRecord
from guardrails.windows import Calendar
from orgs.models import ApiKey
from orgs.services.keys import create_api_key
from proxy.naming_services import PresetWords, create_preset
from tests.actors import World
from tests.ledger_rows import call_row, insert_calls, refused_row

CENT = 10**7
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def auto(need: float) -> dict[str, Any]:
    return {"auto": {"asked": "auto", "need": need, "model": "m", "others": []}}


def row(key: ApiKey, *, baseline: int | None = None, cost: int = CENT, at: datetime = NOW, **fields: Any) -> Any:
    return call_row(key, at=at, baseline_nano_usd=baseline, list_nano_usd=cost, charged_nano_usd=cost, **fields)


def of(world: World, name: str = "alice") -> Savings:
    return savings_of(Scope.of(world.actor(name)), now=NOW, calendar=Calendar.of(world.acme))


def noahs_key(world: World) -> ApiKey:
    return create_api_key(world.field, name="Noah's key", member=world.noah, by=world.actor("noah"))[0]


def test_what_was_saved_is_told_by_month_and_by_how_the_model_was_chosen(world: World) -> None:
    insert_calls(
        row(world.key, baseline=5 * CENT, decision=auto(0.49)),
        row(world.key, baseline=3 * CENT, decision=auto(0.5)),
        row(world.key, baseline=CENT // 2, decision=auto(0.9)),  # dearer than the baseline
        row(world.key, baseline=100 * CENT),  # nobody routed it
        row(world.key, baseline=None, cache_saving_nano_usd=2 * CENT, cache_read_tokens=3000),
        row(world.key, baseline=9 * CENT, decision=auto(0), at=NOW - timedelta(days=31)),
    )
    found = of(world)
    assert len(found.months) == MONTHS
    assert [part.label for part in found.months][-2:] == ["Oct 2026", "Nov 2026"]
    assert [part.saved.routed for part in found.months][-2:] == [8 * CENT, 4 * CENT + 2 * CENT - CENT // 2]
    assert (found.now.cached, found.now.total) == (2 * CENT, 6 * CENT - CENT // 2 + 2 * CENT)
    parts = {part.label: part.saved for part in found.complexities}
    assert {name: (saved.calls, saved.routed) for name, saved in parts.items()} == {
        "Simple": (1, 4 * CENT), "Complex": (2, 2 * CENT - CENT // 2), "Named": (2, 0),
    }  # fmt: skip
    assert found.routed_calls == 3
    assert (found.now.hits, found.now.input) == (3000, 5 * 1000 + 3000)


def test_what_failed_or_was_refused_saved_nothing(world: World) -> None:
    insert_calls(
        row(world.key, baseline=5 * CENT, cost=0, status="failed", cache_saving_nano_usd=CENT), refused_row(world.key, at=NOW)
    )
    found = of(world)
    assert found.is_empty
    assert found.now.total == 0


def test_groups_are_those_of_level_one_and_each_sees_its_own(world: World) -> None:
    insert_calls(
        *(row(key, baseline=cost, decision=auto(0)) for key, cost in ((world.key, 3 * CENT), (noahs_key(world), 9 * CENT)))
    )
    assert [(part.label, part.saved.routed) for part in of(world).groups] == [("sales", 8 * CENT), ("engineering", 2 * CENT)]
    assert [part.label for part in of(world, "sam").groups] == ["engineering"]
    assert of(world, "lena").now.routed == 2 * CENT


def test_months_are_those_of_the_organisation(world: World) -> None:
    world.acme.time_zone = "Asia/Tokyo"
    insert_calls(
        row(world.key, baseline=3 * CENT, decision=auto(0), at=datetime(2026, 10, 31, 15, 30, tzinfo=UTC))
    )  # November in Tokyo
    assert of(world).now.routed == 2 * CENT


def test_sums_add_up() -> None:
    assert Saved(1, 2, 3, 4, 5, 6).plus(Saved(1, 1, 1, 1, 1, 1)) == Saved(2, 3, 4, 5, 6, 7)


# --- presets --------------------------------------------------------------------------------------


def test_of_two_presets_with_one_name_the_nearest_was_used(world: World) -> None:
    alice, noahs = world.actor("alice"), noahs_key(world)
    above = create_preset(world.root, name="polite", words=PresetWords("auto"), by=alice)
    below = create_preset(world.platform, name="Polite", words=PresetWords("auto"), by=alice)
    insert_calls(
        *(row(world.key, preset="Polite") for _ in range(2)),
        row(noahs, preset="polite"),
        row(noahs, preset="gone"),
        row(noahs),
        row(noahs, preset="polite", at=NOW - timedelta(days=31)),
        refused_row(noahs, at=NOW, preset="polite"),
    )
    presets = {preset.pk: (preset.name, preset.group_id) for preset in (above, below)}
    since = NOW - timedelta(days=30)
    found = preset_use(world.acme.pk, presets=presets, since=since, until=NOW + timedelta(hours=1))
    assert {use.preset_id: (use.calls, use.list_nano_usd) for use in found} == {above.pk: (1, CENT), below.pk: (2, 2 * CENT)}


# --- through HTTP ---------------------------------------------------------------------------------


def page(world: World, name: str, path: str) -> str:
    client = Client()
    client.force_login(getattr(world, name))
    found = client.get(f"/o/{world.acme.slug}/{path}")
    assert found.status_code == 200
    return found.content.decode()


def test_the_routing_page_gets_its_savings(world: World, django_assert_max_num_queries: Any) -> None:
    assert "No saving to tell yet" in page(world, "lena", "usage/savings/")
    insert_calls(
        row(world.key, baseline=301 * CENT, at=timezone.now(), cache_read_tokens=1000, decision=auto(0)),
        row(world.key, baseline=901 * CENT, at=timezone.now(), cache_read_tokens=1000),
    )
    client = Client()
    client.force_login(world.lena)
    address = f"/o/{world.acme.slug}/usage/savings/"
    client.get(address)
    with django_assert_max_num_queries(12):
        text = client.get(address).content.decode()
    assert "$3.00" in text
    assert "of 1 call that auto routed, against the baseline" in text
    assert "50.0%" in text or "50%" in text
    assert "engineering" in text


def test_cards_of_presets_get_their_figures_and_nobody_elses(world: World) -> None:
    ours = create_preset(world.platform, name="polite", words=PresetWords("auto"), by=world.actor("sam"))
    theirs = create_preset(world.sales, name="theirs", words=PresetWords("auto"), by=world.actor("alice"))
    insert_calls(row(world.key, preset="polite", cost=150 * CENT, at=timezone.now()))
    text = page(world, "mia", f"usage/presets/?preset={ours.pk}&preset={theirs.pk}&preset=x&preset=99999999999999999999")
    assert f'id="preset-calls-{ours.pk}" hx-swap-oob="true">1<' in text
    assert "$1.50" in text
    assert f"-{theirs.pk}" not in text


def test_the_call_log_is_narrowed_to_a_preset(world: World) -> None:
    insert_calls(
        row(world.key, preset="polite", at=timezone.now(), requested_model="preset:polite"), row(world.key, at=timezone.now())
    )
    text = page(world, "mia", "calls/?preset=polite")
    assert "Preset: polite" in text
    assert text.count("data-row>") == 1 or text.count("<tr data-row") == 1
    assert "No call matches" in page(world, "mia", "calls/?preset=other")


# --- the call's page ------------------------------------------------------------------------------


def told(**fields: Any) -> Any:
    given: dict[str, Any] = {
        "status": "ok", "http_status": 200, "protocol": "messages", "requested_model": "auto", "provider": "p",
        "route_reason": "weight", "latency_ms": 5, **fields,
    }  # fmt: skip
    return story_of(UsageRecord(**given), attempts=[], path=[])


def test_a_call_tells_its_preset_what_auto_decided_and_the_order_of_deployments() -> None:
    others = [["small", "weaker than the request needs"], ["vast", "its context window is too small"]]
    decision = {
        "auto": {"asked": "auto:best", "need": 0.732, "model": "large", "others": others},
        "order": [["p", "large-up", "weight"], ["q", "large-up", "circuit open"]],
    }
    steps = {step.title: step for step in told(preset="polite", decision=decision).steps}
    assert list(steps) == ["Received", "Preset polite", "auto:best chose large", "Routed", "Completed"]
    chosen = steps["auto:best chose large"]
    assert (chosen.need, chosen.need_percent) == (0.732, 73)
    assert "as much as most or more: 0.73" in chosen.text
    assert list(chosen.others) == [Stop(*other) for other in others]
    routed = steps["Routed"]
    assert routed.ordered
    assert [stop.name for stop in routed.others] == ["p / large-up", "q / large-up"]
    assert routed.others[1].why == "it has failed lately, so it comes last"


@pytest.mark.parametrize(
    ("need", "words"), [(0.0, "less than most: 0.00"), (0.499, "less than most: 0.50"), (0.5, "as much as most")]
)
def test_the_need_is_put_into_words(need: float, words: str) -> None:
    assert words in told(decision=auto(need)).steps[1].text


@pytest.mark.parametrize(
    ("fields", "routed", "cache"),
    [
        ({}, None, None),
        ({"baseline_nano_usd": 5, "list_nano_usd": 2, "input_tokens": 9}, None, None),  # the caller named the model
        ({"baseline_nano_usd": 5, "list_nano_usd": 2, "input_tokens": 9, "decision": auto(0)}, 3, None),
        (
            {
                "baseline_nano_usd": 2,
                "list_nano_usd": 5,
                "decision": auto(1),
                "cache_write_1h_tokens": 7,
                "cache_saving_nano_usd": -4,
            },
            -3,
            (0, 7, -4),
        ),
        ({"baseline_nano_usd": 5, "status": "failed", "cache_read_tokens": 3, "cache_saving_nano_usd": 4}, None, (3, 3, 0)),
        (
            {"input_tokens": 1, "cache_read_tokens": 7, "cache_write_5m_tokens": 2, "cache_saving_nano_usd": 4},
            None,
            (7, 10, 4),
        ),
    ],
)
def test_the_baseline_and_the_cache_are_compared(fields: dict[str, Any], routed: int | None, cache: Any) -> None:
    story = told(**fields)
    assert (story.routed, story.cache) == (routed, cache)


@pytest.mark.parametrize(
    ("read", "written", "saving", "words"),
    [
        (900, 0, CENT, "90% of the input read from it so it saved $0.01"),
        (0, 1000, -CENT, "0% of the input read from it and $0.01 more paid to write what later calls read"),
        (1, 0, 0, "0.99% of the input read from it"),
    ],
)
def test_the_page_of_a_call_tells_the_hit_rate_and_the_saving_of_the_prompt_cache(
    world: World, read: int, written: int, saving: int, words: str
) -> None:
    made = row(
        world.key, at=timezone.now(), input_tokens=100, cache_read_tokens=read, cache_write_5m_tokens=written,
        cache_saving_nano_usd=saving,
    )  # fmt: skip
    insert_calls(made)
    told = re.search(r"<dt>Prompt cache</dt><dd>(.*?)</dd>", page(world, "mia", f"calls/{made.call_id}/"))
    assert told is not None
    assert re.sub(r"<[^>]+>", "", told[1]) == words


def test_the_page_of_a_call_shows_all_of_it(world: World) -> None:
    decision = auto(0.2) | {"order": [["p", "m-up", "cheapest"]]}
    made = row(
        world.key, preset="polite", decision=decision, baseline=3 * CENT, at=timezone.now(), cache_read_tokens=1000,
        cache_saving_nano_usd=CENT,
    )  # fmt: skip
    insert_calls(made)
    text = page(world, "mia", f"calls/{made.call_id}/")
    for words in (
        "Preset polite",
        "auto chose m",
        "0.20 on a scale",
        "At the baseline",
        "so routing saved $0.02",
        "saved $0.01",
        "p / m-up",
    ):
        assert words in text
