"""A call told step by step: every status, every kind of decision, and figures with all their digits."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from analytics.call_story import Gauge, Step, Switch, story_of
from billing.models import CallAttempt, UsageRecord
from orgs.models import ApiKey, Group
from proxy.choosing import Reason
from proxy.route_words import ROUTES

BUDGET = {"level": "key", "node": "Mia's key", "policy": "Limits", "window": "month", "limit": 5 * 10**9, "left": 1_234_567_891}
REFUSAL = {
    "level": "group",
    "node": "Platform",
    "policy": "P",
    "window": "day",
    "limit": "1000",
    "spent": "999.999999999",
    "held": "0.5",
}
RATE = {"level": "key", "node": "k", "policy": "P", "window": "minute", "limit": 6000, "spent": 6000, "held": 0}


def call(**fields: Any) -> UsageRecord:
    given: dict[str, Any] = {
        "status": "ok", "http_status": 200, "protocol": "chat_completions", "requested_model": "m", "provider": "p",
        "route_reason": "only", "finish_reason": "stop", "latency_ms": 1200, "api_key": ApiKey(public_id="k"), **fields,
    }  # fmt: skip
    return UsageRecord(**given)


def steps(record: UsageRecord, *attempts: CallAttempt) -> list[Step]:
    return story_of(record, attempts=attempts, path=[]).steps


def titles(record: UsageRecord, *attempts: CallAttempt) -> list[str]:
    return [step.title for step in steps(record, *attempts)]


def attempt(number: int, status: str = "ok", http_status: int | None = 200, error: str = "") -> CallAttempt:
    return CallAttempt(
        number=number, provider=f"p{number}", model="u", status=status, http_status=http_status, error=error, latency_ms=90
    )


def test_a_completed_call_from_beginning_to_end() -> None:
    told = steps(call(decision=BUDGET, first_token_ms=300, streamed=True), attempt(1, "failed", 503, "overloaded"), attempt(2))
    assert [(step.title, step.tone) for step in told] == [
        ("Received", "ok"),
        ("Admitted", "ok"),
        ("Routed", "ok"),
        ("p1 / u", "bad"),
        ("p2 / u", "ok"),
        ("First token", "ok"),
        ("Completed", "ok"),
    ]
    texts = [step.text for step in told]
    assert texts[0] == "m by chat completions, streamed"
    assert texts[3:5] == ["answered 503, overloaded", "answered 200"]
    assert texts[-1] == "HTTP 200, finish reason stop"


def test_an_attempt_that_got_no_answer_says_how_it_ended() -> None:
    told = steps(call(), attempt(1, "failed", None, "timeout"), attempt(2, "cancelled", None))
    assert [step.text for step in told if " / " in step.title] == ["failed, timeout", "cancelled"]


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        ({}, "$5 on the key Mia's key, $1.234567891 left this month"),
        ({"limit": 10**18, "window": "total"}, "$1,000,000,000 on the key Mia's key, $1.234567891 left in total"),
        ({"left": 0, "window": "day"}, "$5 on the key Mia's key, $0 left today"),
    ],
)
def test_an_admitted_call_names_its_tightest_limit(decision: dict[str, Any], text: str) -> None:
    told = {step.title: step.text for step in steps(call(decision={**BUDGET, **decision}))}
    assert told["Admitted"] == f"Tightest limit: {text} after this call's hold."


@pytest.mark.parametrize(
    ("code", "decision", "title", "text"),
    [
        (
            "budget_exceeded",
            REFUSAL,
            "Refused: budget exceeded",
            "The group Platform has used $999.999999999, with $0.50 held, of $1,000 today.",
        ),
        (
            "budget_exceeded",
            {**REFUSAL, "needed": "0.6"},
            "Refused: budget exceeded",
            "The group Platform has used $999.999999999, with $0.50 held, of $1,000 today. The call could cost up to $0.60.",
        ),
        (
            "rate_limit_exceeded",
            RATE,
            "Refused: rate limit exceeded",
            "The key k has used 6,000 requests of 6,000 requests in the last minute.",
        ),
        ("model_not_found", {}, "Refused: model not found", ""),
        (
            "attribution_required",
            {"level": "organization", "missing": ["environment", "feature"]},
            "Refused: attribution required",
            "The organisation wants to know of every call what it is for. This one lacked: environment, feature.",
        ),
    ],
)
def test_a_refused_call_names_what_refused_it(code: str, decision: dict[str, Any], title: str, text: str) -> None:
    told = steps(call(status="refused", http_status=403, error_code=code, decision=decision, route_reason="", finish_reason=""))
    assert (told[1].title, told[1].text, told[1].tone) == (title, text, "bad")
    assert [step.title for step in told if step.title in ("Routed", "Admitted")] == []
    assert told[-1].text == f"HTTP 403, {code.replace('_', ' ')}"


def why_invalid(member: str, **fields: Any) -> str:
    record = call(
        status="refused", http_status=400, error_code="invalid_request", decision={"invalid": {"member": member}}, **fields
    )
    return steps(record)[1].text


@pytest.mark.parametrize(
    ("member", "fields", "text"),
    [
        ("tools", {}, "What is wrong stands in tools. Its content is not kept: what was wrong with it only the caller was told."),
        ("model", {"requested_model": ""}, "The call names no model."),
        (
            "model",
            {"requested_model": "auto"},
            "What auto stands for cannot do what this call asks for, or is too small for it: which, only its caller was told.",
        ),
        (
            "tools",
            {"call_count": 1200},
            "1,200 calls of one minute. What was wrong with each of them only its caller was told.",
        ),
    ],
)
def test_of_an_invalid_request_it_says_what_is_known(member: str, fields: dict[str, Any], text: str) -> None:
    assert why_invalid(member, **fields) == text


POOL = {"level": "credit pool", "node": "Acme", "policy": "prepaid credit", "window": "total", "limit": 10**9, "left": 0}


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (
            {**BUDGET, "clamped_from": 65_536, "clamped_to": 12_345},
            "The call set no maximum, and could have had 65,536 output tokens: the budget of $5 this month on the key "
            "Mia's key in the policy Limits affords 12,345.",
        ),
        (
            {**POOL, "clamped_from": 4096, "clamped_to": 9},
            "The call set no maximum, and could have had 4,096 output tokens: the prepaid credit of Acme affords 9.",
        ),
        # As rows of earlier versions tell it.
        (
            {**BUDGET, "policy": "", "clamped_to": 12_345},
            "Answer shortened to 12,345 output tokens: the budget of $5 this month on the key Mia's key affords no more.",
        ),
        ({"clamped_to": 9}, "Answer shortened to 9 output tokens: a budget affords no more."),
    ],
)
def test_a_shortened_answer_says_by_what_from_what_to_what(decision: dict[str, Any], text: str) -> None:
    told = {step.title: step for step in steps(call(decision=decision))}["Shortened"]
    assert (told.text, told.tone) == (text, "warn")
    wanted = decision.get("clamped_from")
    allowed = f"{decision['clamped_to']:,} output tokens"
    assert told.switch == (Switch(f"{wanted:,} output tokens", allowed) if wanted else None)


@pytest.mark.parametrize(
    ("status", "tone"), [("ok", "ok"), ("cancelled", "warn"), ("cut", "warn"), ("failed", "bad"), ("abandoned", "bad")]
)
def test_every_ending_has_its_tone(status: str, tone: str) -> None:
    last = steps(call(status=status, http_status=500, error_code="provider_error"))[-1]
    assert (last.tone, last.title) == (tone, str(UsageRecord.Status(status).label))
    assert "provider error" in last.text


def test_what_was_never_reached_is_not_told() -> None:
    bare = call(route_reason="", provider="", finish_reason="", latency_ms=None, requested_model="")
    assert titles(bare) == ["Received", "Completed"]
    assert steps(bare)[0].text == "no model by chat completions, in one piece"
    assert steps(bare)[-1].when == ""


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("only", "p: the only deployment of this model"),
        ("order", "p: first in the order of its deployments"),
        ("later", "p: later"),
    ],
)
def test_the_route_is_told_in_words_also_one_of_a_later_version(reason: str, words: str) -> None:
    assert steps(call(route_reason=reason))[1].text == words


def test_every_reason_of_a_route_has_words() -> None:
    assert ROUTES.keys() == {*get_args(Reason), "fallback"}


def test_where_a_call_could_go_is_told_in_order_and_is_no_decision_of_limits() -> None:
    order = [["main", "gpt", "circuit open"], ["spare", "other", "order"]]
    told = steps(call(route_reason="order", decision={"order": order}))
    assert [step.title for step in told] == ["Received", "Routed", "Completed"]
    assert told[1].text.endswith("It could go to, in this order:")
    assert [stop.name for stop in told[1].others] == ["main / gpt", "spare / other"]


def test_a_deployment_that_was_passed_over_says_why() -> None:
    passed = steps(call(), attempt(1, "skipped", None, "quota"), attempt(2))[2]
    assert (passed.text, passed.tone, passed.when) == ("passed over: what its provider grants a minute was used up", "warn", "")


def test_the_path_is_told_from_the_root_down() -> None:
    path = [Group(name=name) for name in ("Acme", "Platform / EU")]  # type: ignore[no-untyped-call]
    assert story_of(call(), attempts=[], path=path).path == "Acme / Platform / EU"


def test_a_kind_that_this_version_does_not_know_is_still_part_of_the_sum() -> None:
    story = story_of(call(cost_parts={"input": 5, "video_output": 7}, unit_prices={"video_output": 3}), attempts=[], path=[])
    assert [(part.kind, part.cost_nano_usd) for part in story.parts] == [("Input", 5), ("Video output", 7)]
    assert story.total == 12


# --- what the guardrails changed -----------------------------------------------------------------
DEGRADED = {
    "from": "big",
    "to": "small",
    "level": "group",
    "node": "Platform",
    "policy": "P",
    "window": "week",
    "limit": 90 * 10**9,
}


def test_a_call_sent_to_a_cheaper_model_names_both_and_the_budget() -> None:
    told = {step.title: step for step in steps(call(decision={**BUDGET, "degraded": DEGRADED}))}
    text = "Sent to small instead of big: the budget of $90 this week on the group Platform in the policy P is near its cap."
    assert (told["Other model"].text, told["Other model"].tone) == (text, "warn")
    assert told["Other model"].switch == Switch("big", "small")


def test_a_degraded_call_may_be_shortened_too() -> None:
    told = titles(call(decision={**BUDGET, "degraded": DEGRADED, "clamped_to": 9}))
    assert told[1:4] == ["Admitted", "Other model", "Shortened"]


def test_an_observed_hold_says_what_it_covers() -> None:
    told = {step.title: step for step in steps(call(decision={**BUDGET, "observed_cap": 1234}))}
    assert told["Held by experience"].text.startswith("Held for 1,234 output tokens")


def test_a_call_that_nothing_was_checked_for_is_red() -> None:
    told = steps(call(decision={"unguarded": True}))
    assert (told[1].title, told[1].tone, told[1].gauge) == ("Let through unchecked", "bad", None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("hold_used_up", "longer than what was reserved"),
        ("key_revoked", "key was deleted"),
        ("key_disabled", "disabled"),
        ("account_frozen", "suspended"),
        ("gateway_stopping", "stopped or restarted"),
    ],
)
def test_an_answer_that_the_gateway_cut_says_why(code: str, words: str) -> None:
    last = steps(call(status="cut", error_code=code, decision=BUDGET, charged_nano_usd=1))[-1]
    assert words in last.text
    assert "What was delivered is charged" in last.text
    free = steps(call(status="cut", error_code=code, decision=BUDGET, charged_nano_usd=0))[-1]
    assert words in free.text
    assert free.text.endswith(" Nothing is charged.")
    assert (last.title, last.tone) == ("Cut by the gateway", "warn")


@pytest.mark.parametrize(
    ("kind", "window", "text"),
    [
        ("rpm", "minute", "has used 5 requests of 5 requests in the last minute."),
        ("tpm", "minute", "has used 5 tokens of 5 tokens in the last minute."),
        ("rpd", "day", "has used 5 requests of 5 requests today."),
        ("parallel", "now", "has used 5 calls of 5 calls at the same time."),
    ],
)
def test_each_kind_of_refusal_has_its_noun_and_meter(kind: str, window: str, text: str) -> None:
    decision = {**RATE, "kind": kind, "window": window, "limit": 5, "spent": 5}
    refused = steps(call(status="refused", error_code="x", decision=decision))[1]
    assert refused.text == f"The key k {text}"
    assert refused.gauge is not None
    assert (refused.gauge.spent, refused.gauge.limit) == (5, 5)


def test_the_meter_of_a_refused_budget_has_its_exact_figures() -> None:
    gauge = steps(call(status="refused", error_code="budget_exceeded", decision=REFUSAL))[1].gauge
    assert gauge == Gauge("Platform · budget today", 999_999_999_999, 500_000_000, 1000 * 10**9, "usd")


def test_the_meter_of_an_admitted_call_stands_where_its_hold_left_it() -> None:
    gauge = steps(call(decision=BUDGET))[1].gauge
    assert gauge is not None
    assert (gauge.spent, gauge.held, gauge.limit) == (5 * 10**9 - 1_234_567_891, 0, 5 * 10**9)


def test_a_rule_that_refused_names_its_policy_and_a_length_its_bound() -> None:
    rule = {"level": "group", "node": "Platform", "policy": "Models", "ask": "an admin"}
    told = steps(call(status="refused", error_code="model_not_allowed", decision=rule))[1]
    assert (told.text, told.gauge) == ("The policy Models on the group Platform says so.", None)
    told = steps(call(status="refused", error_code="max_tokens_exceeded", decision={**rule, "limit": 500}))[1]
    assert (told.text, told.gauge) == ("The group Platform allows 500 tokens per call.", None)


@pytest.mark.parametrize("value", ["much", None, "1.0000000000001"])
def test_figures_that_make_no_sense_are_shown_as_they_are(value: object) -> None:
    told = steps(call(status="refused", error_code="budget_exceeded", decision={**REFUSAL, "spent": value}))[1]
    assert told.gauge is None
    assert "has used" in told.text


@pytest.mark.parametrize(("status", "told"), [("ok", True), ("failed", True), ("refused", False)])
def test_what_the_provider_was_not_told_is_named(status: str, told: bool) -> None:
    found = [step for step in steps(call(status=status, decision={"ignored": ["seed", "top_k"]})) if step.title == "Translated"]
    assert bool(found) is told
    assert all(step.text.endswith("seed, top_k.") and step.tone == "warn" for step in found)
