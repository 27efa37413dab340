"""Headers of successful answers: figures to the last digit, and nothing that breaks a header whatever people call their nodes."""

from __future__ import annotations

from urllib.parse import unquote
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from billing.ledger import Attempt
from proxy import headers, idempotency
from proxy.call import Call
from tests.proxy.calls import deployment, held, limit, planned_call


def served(call: Call, *, attempts: int = 1) -> Call:
    call.served_by = call.planned.deployments[-1]
    call.attempts = [Attempt(call.id, number, 1, "p", "m", "ok", 200, "", 1) for number in range(1, attempts + 1)]
    return call


def test_a_whole_answer_says_what_it_cost_and_who_served_it() -> None:
    call = served(planned_call(deployment(provider="first"), deployment(provider="second", id=2)), attempts=2)
    assert headers.of_whole(call, charged=1_234_567, content_type="application/json") == {
        "x-request-id": str(call.id),
        "request-id": str(call.id),
        "x-gatehouse-model": "m",
        "x-gatehouse-route": "second; reason=only; attempts=2, first; alternative=deployment; model=m; reason=only",
        "x-gatehouse-cost-usd": "0.001234567",
        "content-type": "application/json",
    }


def test_the_request_id_is_the_id_of_the_row() -> None:
    call = served(planned_call())
    assert UUID(headers.of_whole(call, charged=0, content_type="application/json")["x-request-id"]) == call.id


@pytest.mark.parametrize(
    ("charged", "shown"), [(0, "0"), (1, "0.000000001"), (10**9, "1"), (123_456_789_012, "123.456789012"), (500_000_000, "0.5")]
)
def test_a_cost_is_exact(charged: int, shown: str) -> None:
    assert (
        headers.of_whole(served(planned_call()), charged=charged, content_type="application/json")["x-gatehouse-cost-usd"]
        == shown
    )


def test_a_stream_has_no_cost_yet_and_is_kept_from_buffers() -> None:
    found = headers.of_stream(served(planned_call(stream=True)))
    assert "x-gatehouse-cost-usd" not in found
    assert found["content-type"] == "text/event-stream; charset=utf-8"
    assert (found["cache-control"], found["x-accel-buffering"]) == ("no-cache", "no")


def test_a_stream_and_a_whole_answer_tell_the_same_of_their_limits() -> None:
    call = served(planned_call())
    call.held = held(tightest=limit(), left_nano_usd=5, rate=limit(kind="rpm", window="minute", value=60), rate_left=59)
    whole, stream = headers.of_whole(call, charged=1, content_type="application/json"), headers.of_stream(call)
    of_whole = ("x-gatehouse-cost-usd", "x-gatehouse-budget-left-usd")
    assert {name: value for name, value in whole.items() if name.startswith("x-") and name not in of_whole} == {
        name: value for name, value in stream.items() if name.startswith("x-") and name != "x-accel-buffering"
    }


def test_what_was_changed_of_a_call_is_true_whenever_its_answer_is_given_out() -> None:
    call = served(planned_call())
    call.held = held(tightest=limit(), rate=limit(kind="rpm", window="minute", value=60), rate_left=59)
    limits = headers.of_whole(call, charged=1, content_type="application/json").keys() - idempotency.LASTING
    call.held = held(tightest=limit(), rate=limit(kind="rpm", window="minute", value=60), rate_left=59, clamped=True)
    call.max_tokens, call.degraded, call.ignored = 50, limit(degrade_model="m"), ("seed",)
    changed = headers.of_whole(call, charged=1, own=1, content_type="application/json")
    assert {"x-gatehouse-max-tokens", "x-gatehouse-degraded-from", "x-gatehouse-ignored"} < changed.keys()
    assert changed.keys() - idempotency.LASTING == limits
    assert {name.rpartition("-")[0] for name in limits} == {
        "x-gatehouse", "x-gatehouse-budget-left", "x-ratelimit-limit", "x-ratelimit-remaining",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("own_only", "counts_byok", "charged", "own", "left"),
    [
        (False, False, 200, None, "1.5000008"),
        (False, True, 0, 300, "1.5000007"),
        (False, False, 0, 300, "1.500001"),  # it could have cost the budget something, and did not
        (True, False, 0, 300, "1.5"),  # nothing was held of this budget
        (True, True, 0, 300, "1.5000007"),
    ],
)
def test_the_tightest_budget_is_named_with_what_is_left_once_the_call_is_charged(
    own_only: bool, counts_byok: bool, charged: int, own: int | None, left: str
) -> None:
    call = served(planned_call(deployment(own_key_id=7 if own_only else None)))
    tightest = limit(level="group", node="Platform", window="day", counts_byok=counts_byok)
    call.held = held(tightest=tightest, left_nano_usd=1_500_000_000, amount_nano_usd=1_000)
    found = headers.of_whole(call, charged=charged, own=own, content_type="application/json")
    assert (found["x-gatehouse-budget"], found["x-gatehouse-budget-left-usd"]) == ("group Platform day", left)


def test_a_budget_lowered_below_its_spending_has_nothing_left_not_less() -> None:
    call = served(planned_call())
    call.held = held(tightest=limit(), left_nano_usd=-1_007, amount_nano_usd=1_000)
    assert headers.of_whole(call, charged=0, content_type="application/json")["x-gatehouse-budget-left-usd"] == "0"


def test_a_rate_is_counted_in_requests() -> None:
    call = served(planned_call())
    call.held = held(rate=limit(kind="rpm", window="minute", value=60), rate_left=0)
    found = headers.of_whole(call, charged=0, content_type="application/json")
    assert (found["x-ratelimit-limit-requests"], found["x-ratelimit-remaining-requests"]) == ("60", "0")
    assert "x-gatehouse-budget" not in found


@pytest.mark.parametrize(("clamped", "told"), [(True, "33"), (False, None)])
def test_a_shortened_answer_says_so(clamped: bool, told: str | None) -> None:
    call = served(planned_call())
    call.held, call.max_tokens = held(clamped=clamped), 33
    assert headers.of_whole(call, charged=0, content_type="application/json").get("x-gatehouse-max-tokens") == told


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_name_can_break_a_header_or_add_one(node: str, provider: str, model: str) -> None:
    call = served(planned_call(deployment(provider=provider, offered=model)))
    call.held = held(tightest=limit(node=node))
    for name, value in headers.of_whole(call, charged=0, content_type="application/json").items():
        value.encode("ascii")
        assert value.isprintable(), name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("R&D: core/3 (EU)\r\nx-evil: 1 é 🚀 50% %41")
def test_a_name_that_is_no_plain_ascii_is_percent_encoded_and_reads_back(node: str) -> None:
    call = served(planned_call())
    call.held = held(tightest=limit(node=node))
    found = headers.of_whole(call, charged=0, content_type="application/json")["x-gatehouse-budget"]
    assert unquote(found) == f"key {node} month"
    assert found.isascii()
    assert found.isprintable()
    if node.isascii() and node.isprintable() and "%" not in node:
        assert found == f"key {node} month"


def test_tokens_left_in_the_minute_are_told_and_never_negative() -> None:
    call = served(planned_call())
    call.held = held(token_rate=limit(kind="tpm", window="minute", value=500), tokens_left=-3)
    found = headers.of_whole(call, charged=0, content_type="application/json")
    assert (found["x-ratelimit-limit-tokens"], found["x-ratelimit-remaining-tokens"]) == ("500", "0")


def test_what_the_guardrails_changed_is_told() -> None:
    call = served(planned_call())
    call.max_tokens, call.degraded = 55, limit(degrade_model="m")
    call.plan = msgspec.structs.replace(call.planned, observed=True)
    call.held = held()
    found = headers.of_stream(call)
    assert (found["x-gatehouse-max-tokens"], found["x-gatehouse-hold"]) == ("55", "observed")
    assert found["x-gatehouse-degraded-from"] == "scripted"
    assert "x-gatehouse-guardrails" not in found

    call.held = held(unguarded=True)
    assert headers.of_stream(call)["x-gatehouse-guardrails"] == "unchecked"


def test_what_the_provider_was_not_told_is_named_on_whole_answers_and_streams() -> None:
    call = served(planned_call())
    assert "x-gatehouse-ignored" not in headers.of_stream(call)
    call.ignored = ("seed", "top_k")
    found = [headers.of_stream(call), headers.of_whole(call, charged=0, content_type="application/json")]
    assert [one["x-gatehouse-ignored"] for one in found] == ["seed, top_k"] * 2
