"""`manage.py replay`: recorded calls through a real gateway, and a summary that agrees with the ledger."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.plugin import DjangoDbBlocker

from billing.models import PriceVersion, UsageRecord
from billing.pricing import Rates
from gateway_project.demo import catalogue as demo_catalogue
from gateway_project.demo import trace
from gateway_project.demo.trace import TracedCall
from gateway_project.lib.ids import new_call_id
from gateway_project.lib.money import cost_of, exact_usd
from gateway_project.replay import sending, summary
from gateway_project.replay.sending import Outcome, Target
from proxy import catalogue
from tests.gateways import Gateway
from tests.house import House, build
from tests.upstream import HTML, RESET, Upstream, answer, frame, refuse, slowly, stream

MODEL = "replayed"


@pytest.fixture(scope="module")
def provider(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Upstream]:
    """A scripted provider of this module's own, which serves the model `replayed`."""
    scripted = Upstream().start()
    model = {
        "name": MODEL,
        "price": {"input": "1", "output": "4"},
        "deployments": [{"provider": MODEL, "model": MODEL}],
    }
    address = {"name": MODEL, "kind": "openai-compatible", "base_url": scripted.url}
    with django_db_blocker.unblock():
        demo_catalogue.declare_missing()
        catalogue.load({"providers": [address], "models": [model]})
    yield scripted
    scripted.stop()


@pytest.fixture
def house(committed_db: None, provider: Upstream) -> Iterator[House]:
    """An organisation of this test's own, which may call `replayed` and the sandbox's models."""
    provider.forget()
    built = build()
    yield built
    built.close()


class Replayed:
    """One run of the command: its summary, what it said besides, and how it ended."""

    def __init__(self, house: House, gateway: Gateway, *options: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.failure = ""
        self.began = new_call_id()
        try:
            call_command("replay", *options, "--url", gateway.url, "--key", house.key_text, "--json", stdout=out, stderr=err)
        except CommandError as error:
            self.failure = str(error)
        self.progress = err.getvalue()
        self.summary: dict[str, Any] = json.loads(out.getvalue() or "{}")
        self.rows = [row for row in house.rows() if row.call_id > self.began]


def by_hand(row: UsageRecord) -> int:
    rates = msgspec.convert(PriceVersion.objects.get(pk=row.price_version_id or 0).rates, Rates)
    return cost_of(row.input_tokens, rates.input) + cost_of(row.output_tokens, rates.output)


# --- against a gateway -------------------------------------------------------------------------
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["whole", "streams"])
def test_the_ledger_holds_what_was_replayed(house: House, gateway: Gateway, options: tuple[str, ...]) -> None:
    done = Replayed(house, gateway, "--calls", "120", "--speed", "0", *options)
    recorded = trace.read(trace.CONVERSATION, calls=120)
    assert done.failure == ""
    assert done.summary["calls"] == done.summary["answered"] == len(done.rows) == 120
    assert done.summary["errors"] == {}
    assert done.summary["input_tokens"] == sum(call.input_tokens for call in recorded)
    assert done.summary["output_tokens"] == sum(call.output_tokens for call in recorded)
    charged = sum(row.charged_nano_usd for row in done.rows)
    assert done.summary["cost_usd"] == exact_usd(charged)
    assert charged == sum(by_hand(row) for row in done.rows) > 0
    assert sorted((row.input_tokens, row.output_tokens) for row in done.rows) == sorted(call[1:] for call in recorded)
    assert {row.streamed for row in done.rows} == {bool(options)}
    assert house.nothing_held()
    assert house.counter("org") == {"spent": charged, "held": 0}


def test_the_recorded_times_are_kept_and_can_be_shortened(house: House, gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    seconds = ("00", "01", "04")
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"2026-01-01 10:00:{at},10,2\n" for at in seconds))
    done = Replayed(house, gateway, str(path), "--speed", "4")
    first, second, third = [row.admitted_at for row in done.rows]
    assert 0.2 < (second - first).total_seconds() < 0.6
    assert 0.9 < (third - first).total_seconds() < 1.5
    assert done.summary["seconds"] >= 1.0


def test_a_short_trace_begins_again(house: House, gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2026-01-01 10:00:00,10,2\n2026-01-01 10:00:01,20,0\n")
    done = Replayed(house, gateway, str(path), "--calls", "5", "--speed", "0")
    assert done.summary["input_tokens"] == 10 + 20 + 10 + 20 + 10
    assert done.summary["output_tokens"] == 2 + 0 + 2 + 0 + 2


def test_no_more_calls_at_once_than_asked(house: House, gateway: Gateway, provider: Upstream) -> None:
    provider.on(MODEL, slowly(answer(), 0.2))
    began = time.monotonic()
    done = Replayed(house, gateway, "--calls", "6", "--speed", "0", "--concurrency", "2", "--model", MODEL)
    assert done.summary["answered"] == 6
    assert time.monotonic() - began > 0.6


def test_failed_calls_are_counted_by_code_and_end_in_failure(house: House, gateway: Gateway, provider: Upstream) -> None:
    provider.then(refuse(500), answer(usage=(7, 3)), HTML)
    done = Replayed(house, gateway, "--calls", "3", "--speed", "0", "--concurrency", "1", "--model", MODEL)
    assert done.summary["errors"] == {"provider_error": 2}
    assert (done.summary["answered"], done.summary["input_tokens"], done.summary["output_tokens"]) == (1, 7, 3)
    assert done.failure == "2 of 3 calls were not answered."


def test_a_stream_that_fails_is_no_answer(house: House, gateway: Gateway, provider: Upstream) -> None:
    provider.then(
        stream(frame({"content": "Hel"}), ending="reset"), RESET, RESET
    )  # on a connection that was kept it is sent once more
    done = Replayed(house, gateway, "--calls", "2", "--speed", "0", "--concurrency", "1", "--stream", "--model", MODEL)
    assert done.summary["answered"] == 0
    assert sum(done.summary["errors"].values()) == 2
    assert done.summary["p50_ms"] is None


def test_refusals_of_a_spent_budget_are_told_by_their_code(house: House, gateway: Gateway) -> None:
    house.limit("budget", 0)
    done = Replayed(house, gateway, "--calls", "4", "--speed", "0")
    assert done.summary["errors"] == {"budget_exceeded": 4}
    assert done.summary["cost_usd"] == "0"
    assert "4 of 4" in done.failure


def test_long_runs_say_how_far_they_are(house: House, gateway: Gateway, provider: Upstream) -> None:
    provider.on(MODEL, slowly(answer(), 0.8))
    done = Replayed(house, gateway, "--calls", "4", "--speed", "0", "--concurrency", "1", "--model", MODEL)
    assert "3 of 4 calls" in done.progress


def test_for_people_it_prints_lines(house: House, gateway: Gateway) -> None:
    out = io.StringIO()
    call_command("replay", "--calls", "2", "--speed", "0", "--url", f"{gateway.url}/v1/", "--key", house.key_text, stdout=out)
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["Calls", "Tokens", "Cost", "Errors", "Latency"]
    assert "2 answered" in lines[0]


def test_the_demos_key_is_the_default(lasting_demo: dict[str, Any], gateway: Gateway) -> None:
    out = io.StringIO()
    call_command("replay", "--calls", "3", "--speed", "0", "--url", gateway.url, "--json", stdout=out)
    assert json.loads(out.getvalue())["answered"] == 3
    newest = UsageRecord.objects.filter(organization__name="Northwind Health").exclude(route_reason__startswith="demo")
    assert newest.count() >= 3


# --- what cannot be replayed -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--model", "nothing-of-the-kind"), "offers no model 'nothing-of-the-kind'"),
        (("nowhere.csv",), "nowhere.csv cannot be read: No such file"),
        (("--calls", "0"), "--calls: give at least 1"),
        (("--speed", "-1"), "--speed: give 0 or more"),
        (("--speed", "nan"), "--speed: give 0 or more"),
        (("--concurrency", "0"), "--concurrency: give 1 to"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    house: House, gateway: Gateway, options: tuple[str, ...], sentence: str
) -> None:
    done = Replayed(house, gateway, *options)
    assert sentence in done.failure
    assert "\n" not in done.failure
    assert (done.summary, done.rows) == ({}, [])


def test_a_gateway_that_is_not_there_or_knows_no_such_key_is_named(house: House, gateway: Gateway) -> None:
    with pytest.raises(CommandError, match=r"127\.0\.0\.1:9 cannot be reached"):
        call_command("replay", "--url", "http://127.0.0.1:9", "--key", house.key_text)
    with pytest.raises(CommandError, match="does not take this key: 401 invalid_api_key"):
        call_command("replay", "--url", gateway.url, "--key", "gh_sk_nobody")
    with pytest.raises(CommandError, match="cannot be reached"):
        call_command("replay", "--url", "not an address", "--key", house.key_text)


@pytest.mark.usefixtures("committed_db")
def test_what_answers_but_is_no_gateway_is_said(provider: Upstream) -> None:
    with pytest.raises(CommandError, match=r"does not take this key: 405|is not a gateway"):
        call_command("replay", "--url", provider.url, "--key", "gh_sk_any")


@pytest.mark.usefixtures("state_folder")
def test_without_a_demo_a_key_is_asked_for() -> None:
    with pytest.raises(CommandError, match="give --key"):
        call_command("replay", "--calls", "1")


# --- the summary -------------------------------------------------------------------------------
def outcome(latency_ms: float = 1, *, cost: str | None = "0", error: str = "") -> Outcome:
    return Outcome(latency_ms, error, "", 10, 2, None if cost is None else Decimal(cost))


@given(amounts=st.lists(st.integers(0, 10**18), min_size=1, max_size=50))
def test_cost_is_the_exact_sum_of_what_the_answers_said(amounts: list[int]) -> None:
    found = summary.of([outcome(cost=exact_usd(amount)) for amount in amounts], seconds=1)
    assert found.as_json()["cost_usd"] == exact_usd(sum(amounts))


def test_a_cost_that_is_not_known_is_not_made_up() -> None:
    mixed = [outcome(cost="0.5"), outcome(cost=None)]
    assert summary.of(mixed, seconds=1).cost_usd is None
    assert summary.of(mixed, seconds=1).lines()[2] == "Cost      not known: answers do not tell"
    assert summary.of(mixed, seconds=1, stream_cost_usd=Decimal("0.7")).as_json()["cost_usd"] == "0.7"


def test_failures_count_neither_in_tokens_nor_in_latency() -> None:
    found = summary.of([outcome(5), outcome(9_000, error="provider_error", cost=None)], seconds=2)
    assert (found.calls, found.answered, found.failed) == (2, 1, 1)
    assert (found.input_tokens, found.output_tokens, found.p99_ms) == (10, 2, 5)
    assert found.errors == {"provider_error": 1}
    assert found.lines()[0] == "Calls     2 in 2.0 s (1.0 per second), 1 answered"


@given(values=st.lists(st.floats(0, 1e6), min_size=1), share=st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_the_share_does_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = summary.percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-9


def test_a_call_asks_for_the_recorded_tokens() -> None:
    body = json.loads(sending.body_of(TracedCall(0, 1_000, 7), Target("", "", "m", stream=True)))
    assert body["metadata"] == {"sandbox": {"input_tokens": 1_000, "output_tokens": 7}}
    assert (body["max_tokens"], len(body["messages"][0]["content"])) == (7, 4_000)
    assert body["stream_options"] == {"include_usage": True}
    nothing = json.loads(sending.body_of(TracedCall(0, 0, 0), Target("", "", "m")))
    assert (nothing["max_tokens"], "stream" in nothing) == (1, False)
