"""Who pays for what, by the table, and what a row says of its call."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from billing.ledger import Row
from billing.pricing import Price, Rates
from orgs.access import Node
from proxy import recording
from proxy.call import Call
from proxy.canonical.usage import Usage
from proxy.errors import BudgetExceeded, GatewayStopping, GuardrailsUnavailable, HoldUsedUp, KeyRevoked, ProviderFailed
from tests.proxy.calls import caller, deployment, held, limit, planned_call

USAGE = Usage(input_uncached=100, cache_read=50, output=20, reasoning=5)
RATES = Rates(input=1_000_000_000, cache_read=100_000_000, output=4_000_000_000, request=7)
COST = 100 * 1_000 + 50 * 100 + 20 * 4_000 + 7


def served(**fields: Any) -> Call:
    call = planned_call(**fields)
    call.served_by = deployment(rates=RATES)
    call.held = held(amount_nano_usd=999_999)
    return call


def money(row: Row) -> tuple[int, int, int]:
    return row.charged_nano_usd, row.list_nano_usd, row.absorbed_nano_usd


def test_a_complete_answer_costs_what_the_provider_reports() -> None:
    row = recording.completed(served(), USAGE, text_length=9_999, finish_reason="stop", has_output=True)

    assert money(row) == (COST, COST, 0)
    assert (row.status, row.http_status, row.finish_reason, row.usage_estimated) == ("ok", 200, "stop", False)
    assert (row.input_tokens, row.cache_read_tokens, row.output_tokens, row.reasoning_tokens) == (100, 50, 20, 5)
    assert row.cost_parts == {"input": 100_000, "cache_read": 5_000, "output": 80_000, "request": 7}
    assert sum(row.cost_parts.values()) == row.charged_nano_usd
    assert row.unit_prices == {"input": 10**9, "cache_read": 10**8, "output": 4 * 10**9, "request": 7}
    assert (row.price_version_id, row.reserved_nano_usd) == (1, 999_999)


def test_an_answer_without_usage_costs_a_marked_estimate() -> None:
    call = served()
    row = recording.completed(call, None, text_length=41, finish_reason="stop", has_output=True)
    assert row.usage_estimated
    assert row.output_tokens == 11  # four characters a token, rounded up
    assert row.input_tokens == call.asked.input_tokens_estimate * 3 // 5
    assert row.charged_nano_usd == row.list_nano_usd > 0


@pytest.mark.parametrize(
    ("finish_reason", "has_output", "charged"), [("", False, 0), ("", True, COST), ("length", False, COST), ("stop", True, COST)]
)
def test_neither_output_nor_finish_reason_is_free(finish_reason: str, has_output: bool, charged: int) -> None:
    row = recording.completed(served(), USAGE, text_length=0, finish_reason=finish_reason, has_output=has_output)
    assert money(row) == (charged, COST, 0)


def test_who_leaves_a_stream_pays_for_input_and_what_was_delivered() -> None:
    row = recording.hung_up(served(), None, text_length=8)
    assert (row.status, row.http_status, row.output_tokens, row.usage_estimated) == ("cancelled", 499, 2, True)
    assert row.charged_nano_usd == row.input_tokens * 1_000 + 2 * 4_000 + 7

    assert money(recording.hung_up(served(), USAGE, text_length=8)) == (COST, COST, 0)


def test_who_leaves_before_an_answer_pays_nothing() -> None:
    row = recording.cancelled(served())
    assert (row.status, row.http_status, money(row)) == ("cancelled", 499, (0, 0, 0))


def test_what_a_failing_provider_delivered_is_absorbed() -> None:
    row = recording.failed(served(), USAGE, text_length=80, error=ProviderFailed())
    assert money(row) == (0, 0, COST)
    assert (row.status, row.http_status, row.error_code) == ("failed", 502, "provider_error")

    estimated = recording.failed(served(), text_length=80, error=ProviderFailed())
    assert (estimated.output_tokens, estimated.usage_estimated, estimated.charged_nano_usd) == (20, True, 0)
    assert estimated.absorbed_nano_usd > 0


def test_a_provider_that_delivered_nothing_costs_nothing() -> None:
    assert money(recording.failed(served(), error=ProviderFailed())) == (0, 0, 0)


def test_a_refusal_costs_nothing_and_keeps_the_figures_that_decided() -> None:
    row = recording.refused(planned_call(), BudgetExceeded(detail={"level": "key", "limit": "1"}))
    assert (row.status, row.http_status, row.error_code, money(row)) == ("refused", 403, "budget_exceeded", (0, 0, 0))
    asked = planned_call().asked
    as_asked = {"call": {"input_tokens": asked.input_tokens_estimate, "n": 1}}
    assert row.decision == {"level": "key", "limit": "1"} | as_asked
    assert (row.provider, row.deployment_id, row.reserved_nano_usd) == ("", None, 0)
    assert recording.refused(planned_call(), GuardrailsUnavailable()).decision == as_asked
    searching = planned_call()
    searching.asked.reserve_tokens = 25_000
    told = recording.refused(searching, BudgetExceeded()).decision["call"]
    assert told == {"input_tokens": asked.input_tokens_estimate, "reserve_tokens": 25_000, "n": 1}
    unread = planned_call()
    unread.request = None
    assert recording.refused(unread, GuardrailsUnavailable()).decision == {}


def test_a_call_without_a_price_is_recorded_with_its_tokens() -> None:
    call = served()
    call.served_by = msgspec.structs.replace(deployment(), price=None)
    row = recording.completed(call, USAGE, text_length=1, finish_reason="stop", has_output=True)
    assert (money(row), row.input_tokens, row.price_version_id) == ((0, 0, 0), 100, None)


def test_a_call_that_could_not_be_read_has_a_row_of_its_caller() -> None:
    row = recording.refused(Call("chat_completions", caller()), BudgetExceeded())
    assert (row.organization_id, row.api_key_id, row.requested_model, row.streamed) == (1, 4, "", False)


def test_the_row_names_the_path_level_by_level() -> None:
    call = Call("chat_completions", caller(path=tuple(Node(10 + level, level, "") for level in range(5))))
    row = recording.cancelled(call)
    assert [row.group0_id, row.group1_id, row.group2_id, row.group3_id, row.group4_id] == [10, 11, 12, 13, 14]


def test_the_decision_names_the_tightest_budget_and_the_clamp() -> None:
    call = served()
    call.held = held(tightest=limit(value=500), left_nano_usd=20)
    decision = {"level": "key", "node": "Mia's key", "policy": "L", "window": "month", "limit": 500, "left": 20}
    assert recording.cancelled(call).decision == decision

    call.held, call.max_tokens = msgspec.structs.replace(call.held, clamped=True), 77
    assert recording.cancelled(call).decision == {**decision, "clamped_from": call.planned.output_cap, "clamped_to": 77}


def test_the_context_of_a_hold_makes_a_row_again() -> None:
    call = served()
    kept = msgspec.json.decode(msgspec.json.encode(recording.context(call)))
    assert kept == {
        "organization_id": 1,
        "group0_id": 1,
        "group1_id": 2,
        "member_id": 3,
        "api_key_id": 4,
        "protocol": "chat_completions",
        "requested_model": "scripted",
    }
    again = Row(call_id=call.id, admitted_at=call.began_at, status="abandoned", http_status=500, **kept)
    whole = recording.cancelled(call)
    for name in kept:
        assert getattr(again, name) == getattr(whole, name)


@pytest.mark.parametrize(
    ("given", "kept"), [("gpt", "gpt"), ("a\x00b", "a\N{REPLACEMENT CHARACTER}b"), ("a\ud800b", "a?b"), ("x" * 500, "x" * 200)]
)
def test_names_that_others_made_up_fit_the_database(given: str, kept: str) -> None:
    assert recording.storable(given) == kept


@pytest.mark.parametrize(("amount", "charged", "absorbed"), [(COST, COST, 0), (COST - 1, COST - 1, 1), (10 * COST, COST, 0)])
def test_who_is_cut_pays_for_what_was_delivered_and_never_more_than_was_held(amount: int, charged: int, absorbed: int) -> None:
    call = served()
    call.held = held(amount_nano_usd=amount)
    row = recording.cut(call, USAGE, text_length=0, error=HoldUsedUp())
    assert money(row) == (charged, COST, absorbed)
    assert (row.status, row.http_status, row.error_code, row.finish_reason) == ("cut", 200, "hold_used_up", "length")


def test_a_call_that_held_nothing_pays_for_what_was_delivered() -> None:
    call = served()
    call.held = held(amount_nano_usd=0, unguarded=True)
    row = recording.cut(call, USAGE, text_length=0, error=KeyRevoked())
    assert (money(row), row.status, row.error_code, row.finish_reason) == ((COST, COST, 0), "cut", "key_revoked", "")
    assert row.decision == {"unguarded": True}


def test_the_decision_names_the_cheaper_model_and_the_observed_hold() -> None:
    call = served()
    call.degraded = limit(value=10, forgiven=4, degrade_model="cheap", policy="Savings")
    call.plan = msgspec.structs.replace(call.planned, observed=True, output_cap=55)
    assert recording.cancelled(call).decision == {
        "observed_cap": 55,
        "degraded": {
            "from": "scripted", "to": "cheap", "level": "key", "node": "Mia's key", "policy": "Savings", "window": "month",
            "limit": 6,
        },
    }  # fmt: skip


def test_a_guess_is_never_more_than_the_provider_was_told_to_write() -> None:
    call = served(n=2)
    call.max_tokens = 5
    assert recording.hung_up(call, None, text_length=400).output_tokens == 10
    assert recording.hung_up(call, None, text_length=8).output_tokens == 2
    assert recording.hung_up(call, USAGE, text_length=400).output_tokens == 20

    call.cut = HoldUsedUp()
    assert recording.cut(call, None, text_length=400, error=call.cut).output_tokens == 100


@pytest.mark.parametrize(("written", "paid_for"), [(9, 9), (10, 10), (11, 10), (100_000, 10)])
def test_what_a_provider_writes_beyond_what_it_was_told_is_absorbed(written: int, paid_for: int) -> None:
    call = served()
    call.max_tokens = 10
    row = recording.completed(
        call, Usage(input_uncached=100, output=written), text_length=1, finish_reason="stop", has_output=True
    )
    told = recording.completed(
        call, Usage(input_uncached=100, output=paid_for), text_length=1, finish_reason="stop", has_output=True
    )
    assert row.output_tokens == written
    assert row.charged_nano_usd == told.charged_nano_usd
    assert row.charged_nano_usd + row.absorbed_nano_usd == row.list_nano_usd


@pytest.mark.parametrize(
    ("usage", "charged", "absorbed"),
    [
        (Usage(units={"image": 2}), 80, 0),
        (Usage(units={"image": 3, "web_search": 5}), 80, 40 + 5 * 7),
        (Usage(), 80, 0),
        (Usage(image_output=250, units={"image": 1}), 40 + 200, 50),
    ],
)
def test_units_and_pictures_beyond_what_was_asked_for_are_absorbed(usage: Usage, charged: int, absorbed: int) -> None:
    call = planned_call(n=2)
    call.served_by = deployment(rates=Rates(input=0, output=10**6, units={"image": 40, "web_search": 7}))
    call.held = held(amount_nano_usd=999_999)
    assert call.request is not None
    call.request.units = {"image": 2}
    call.plan = msgspec.structs.replace(call.planned, output_cap=100)
    row = recording.completed(call, usage, text_length=0, finish_reason="stop", has_output=True)
    assert (row.charged_nano_usd, row.absorbed_nano_usd) == (charged, absorbed)
    assert row.units.items() >= usage.units.items()


@pytest.mark.parametrize(("made", "charged"), [(0, 0), (3, 21), (4, 21)])
def test_searches_are_charged_up_to_what_was_held_and_never_by_a_guess(made: int, charged: int) -> None:
    call = planned_call()
    call.served_by = deployment(rates=Rates(input=0, output=0, units={"web_search": 7}))
    assert call.request is not None
    call.request.reserve_units = {"web_search": 3}
    usage = Usage(units={"web_search": made} if made else {})
    row = recording.completed(call, usage, text_length=1, finish_reason="stop", has_output=True)
    assert (row.charged_nano_usd, row.absorbed_nano_usd, row.units) == (charged, 7 * made - charged, usage.units)


def test_withholding_twice_loses_nothing_of_what_was_absorbed() -> None:
    row = recording.completed(served(), USAGE, text_length=1, finish_reason="stop", has_output=True)
    recording.withhold(row)
    once = (row.status, row.error_code, *money(row))
    recording.withhold(row)
    assert (row.status, row.error_code, *money(row)) == once == ("failed", "guardrails_unavailable", 0, 0, COST)


def test_with_what_is_withheld_nothing_was_saved() -> None:
    """A row that stays cut would else be counted as all that the baseline costs."""
    call = served()
    call.baseline = Price(version_id=2, sku="model:baseline", rates=Rates(input=9_000_000_000, output=9_000_000_000))
    cut = recording.cut(call, USAGE, text_length=1, error=GatewayStopping())
    assert (cut.baseline_nano_usd, cut.cache_saving_nano_usd) == ((150 + 20) * 9_000, 50 * 900)
    recording.withhold(cut)
    assert (cut.status, cut.list_nano_usd, cut.baseline_nano_usd, cut.cache_saving_nano_usd) == ("cut", 0, None, 0)


def test_a_row_that_says_why_it_ended_keeps_that_when_it_is_withheld() -> None:
    failed = recording.failed(served(), USAGE, error=ProviderFailed())
    cut = recording.cut(served(), USAGE, text_length=1, error=GatewayStopping())
    refused = recording.refused(served(), BudgetExceeded())
    left = recording.cancelled(served())
    for row in (failed, cut, refused, left):
        recording.withhold(row)
    assert (failed.status, failed.error_code, *money(failed)) == ("failed", "provider_error", 0, 0, COST)
    assert (cut.status, cut.error_code, *money(cut)) == ("cut", "gateway_stopping", 0, 0, COST)
    assert (refused.status, refused.error_code, *money(refused)) == ("refused", "budget_exceeded", 0, 0, 0)
    assert (left.status, left.error_code, left.http_status) == ("cancelled", "", 499)


def test_a_withheld_row_says_what_its_caller_was_told_first() -> None:
    whole = recording.completed(served(), USAGE, text_length=1, finish_reason="stop", has_output=True)
    used_up = recording.cut(served(), USAGE, text_length=1, error=HoldUsedUp())
    for row in (whole, used_up):
        recording.withhold(row, error=GatewayStopping)
        recording.withhold(row)
        assert (row.status, row.http_status, row.error_code, *money(row)) == ("cut", 503, "gateway_stopping", 0, 0, COST)
