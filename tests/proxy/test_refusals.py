"""What a caller is told of a limit, and how a refused loop is remembered without becoming a flood."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib.money import NANO
from guardrails.admission import Refused
from guardrails.limits import Limit
from proxy import callers, errors, refusals
from proxy.call import Call
from proxy.errors import BudgetExceeded, InsufficientCredits, ProxyError, RateLimitExceeded
from proxy.refusals import Needs
from tests.coroutines import as_worker
from tests.house import House
from tests.proxy.calls import limit, plan

AT = 1_795_000_000_000
RESETS = 1_795_100_000_000
NOTHING = Needs()


def told(of: Limit, *, used: int = 3 * NANO // 2, held: int = 0, retry_after_ms: int = 0, needs: Needs = NOTHING) -> ProxyError:
    return refusals.error_of(Refused(of, used, held, AT, retry_after_ms), needs)


@pytest.mark.parametrize(("window", "words"), [("day", "today"), ("month", "this month"), ("total", "in total")])
def test_a_budget_says_whose_it_is_when_it_resets_and_whom_to_ask(window: str, words: str) -> None:
    error = told(limit(window=window, value=2 * NANO + 1, ends_ms=RESETS), held=NANO // 4, needs=Needs(nano_usd=NANO // 3))

    assert isinstance(error, BudgetExceeded)
    assert error.message == (
        'The budget of the key "Mia\'s key" does not cover this call, which could cost up to $0.3334: '
        f"$1.50 spent and $0.25 held of $2 {words}. "
        "It resets on 2026-11-19 at 14:54 UTC; an admin above this level can raise the limit."
    )
    assert error.detail == {
        "level": "key",
        "node": "Mia's key",
        "policy": "L",
        "kind": "budget",
        "window": window,
        "limit": "2.000000001",
        "spent": "1.5",
        "held": "0.25",
        "needed": "0.333333333",
        "resets_at": "2026-11-19T14:53:20Z",
        "ask": "an admin above this level can raise the limit",
    }
    assert errors.headers(error, request_id="1")["x-should-retry"] == "false"
    assert error.retry_after is None


def test_a_budget_in_total_never_resets() -> None:
    error = told(limit(window="total"))
    assert error.detail is not None
    assert error.detail["resets_at"] is None
    assert error.message.endswith(" in total. It never resets; an admin above this level can raise the limit.")


def test_above_the_organisation_there_is_nobody_but_its_super_admins() -> None:
    error = told(limit(level="organization", node="Acme", window="total"))
    assert (error.detail or {})["ask"] == "a Super Admin can raise the limit"
    assert error.message.endswith("; a Super Admin can raise the limit.")


def test_the_pool_is_a_matter_of_payment() -> None:
    error = told(limit(level="credit pool", node="Acme", window="total", value=NANO), needs=Needs(nano_usd=1))
    assert isinstance(error, InsufficientCredits)
    assert (error.status, error.message) == (
        402,
        "The prepaid credit of Acme does not cover this call, which could cost up to $0.000000001: "
        "$1.50 spent and $0 held of $1. Whoever runs this gateway adds credit; a Super Admin can ask them.",
    )
    assert error.detail is not None
    assert error.detail["ask"] == "whoever runs this gateway adds credit; a Super Admin can ask them"


@pytest.mark.parametrize(
    ("least", "needed", "words"),
    [
        (None, "1", "this call, which could cost up to $1: "),
        (NANO // 10, "0.1", "this call, which could cost up to $0.10 even if shortened: "),
    ],
)
def test_what_did_not_fit_is_the_least_that_admission_asked_for(least: int | None, needed: str, words: str) -> None:
    needs = refusals.needs_of(plan(worst_case=NANO, least=least, tokens=7), prompt=5)
    error = told(limit(window="day", value=2 * NANO, ends_ms=RESETS), used=2 * NANO, needs=needs)
    assert error.detail is not None
    assert error.detail["needed"] == needed
    assert words in error.message
    assert needs.tokens == 7


@pytest.mark.parametrize(
    ("prompt", "words"),
    [(59, "It may need 70: ask for less, with max_tokens."), (60, "Its prompt alone counts 60: send less.")],
)
def test_who_needs_more_than_a_minute_has_is_told_what_to_do_about_it(prompt: int, words: str) -> None:
    refused = Refused(limit(kind="tpm", window="minute", value=60), 0, 0, AT, 60_000)
    error = refusals.error_of(refused, Needs(70, prompt=prompt), bound="max_tokens")
    assert error.message.endswith(f" does not cover this call. {words}")
    assert error.should_retry is False


def test_a_rate_says_when_to_come_again() -> None:
    error = told(limit(kind="rpm", window="minute", value=60), used=60, retry_after_ms=1_200)
    assert isinstance(error, RateLimitExceeded)
    assert errors.headers(error, request_id="1")["retry-after"] == "2"
    assert error.message.endswith(" is reached. Try again in 2 seconds.")
    assert error.detail is not None
    assert (error.detail["limit"], error.detail["spent"], error.detail["held"]) == (60, 60, 0)
    resets_at = datetime.fromisoformat(str(error.detail["resets_at"]))
    assert resets_at.timestamp() * 1000 == AT + 2_000


def test_a_days_number_of_calls_says_when_the_day_is_over() -> None:
    of = limit(kind="rpd", window="day", value=9, ends_ms=AT + 7_200_000)
    error = told(of, used=9, retry_after_ms=7_200_000)
    assert error.message == (
        'The limit of 9 requests per day on the key "Mia\'s key" is reached. '
        "It resets on 2026-11-18 at 13:07 UTC; an admin above this level can raise the limit."
    )


@given(st.integers(min_value=1, max_value=10**9))
def test_when_it_resets_is_a_whole_second_never_too_early(retry_ms: int) -> None:
    detail = told(limit(kind="rpm", window="minute", value=60), used=60, retry_after_ms=retry_ms).detail or {}
    text = str(detail["resets_at"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
    assert 0 <= datetime.fromisoformat(text).timestamp() * 1000 - (AT + retry_ms) < 1000


def test_nobody_knows_when_calls_that_run_will_end() -> None:
    error = told(limit(kind="parallel", window="now", value=1), used=1, retry_after_ms=1_000)
    assert error.message.startswith("The limit of 1 call at the same time on")
    assert error.retry_after == 1
    assert error.message.endswith("Try again in 1 second.")
    assert (error.detail or {})["resets_at"] is None


def refuse_often(house: House, times: int, *, error: ProxyError | None = None) -> None:
    async def work() -> None:
        caller = await callers.load(house.key_text)
        for _ in range(times):
            refusals.record(Call("chat_completions", caller), error or BudgetExceeded())

    as_worker(work())


def counts(house: House) -> list[int]:
    return sorted(row.call_count for row in house.rows())


def test_each_refusal_is_a_row_up_to_a_number(house: House) -> None:
    refuse_often(house, 5)
    assert counts(house) == [1] * 5
    assert {(row.status, row.charged_nano_usd) for row in house.rows()} == {("refused", 0)}


def test_beyond_it_a_minute_is_one_row_with_a_count_which_an_orderly_end_writes(house: House) -> None:
    """The minute may change once in between, so there may be two of each."""
    refuse_often(house, 400)
    assert sum(counts(house)) == 400
    assert len(counts(house)) <= 2 * (refusals.ROWS_PER_MINUTE + 1)
    assert max(counts(house)) > 1


def test_reasons_are_counted_apart(house: House) -> None:
    refuse_often(house, refusals.ROWS_PER_MINUTE)
    refuse_often(house, 3, error=RateLimitExceeded())
    assert counts(house) == [1] * (refusals.ROWS_PER_MINUTE + 3)


def test_the_end_of_the_minute_writes_what_was_gathered_and_counts_anew(house: House) -> None:
    async def work() -> None:
        caller = await callers.load(house.key_text)
        for _ in range(refusals.ROWS_PER_MINUTE + 10):
            refusals.record(Call("chat_completions", caller), BudgetExceeded())
        await refusals.flush_all()
        refusals.record(Call("chat_completions", caller), BudgetExceeded())

    as_worker(work())
    assert sum(counts(house)) == refusals.ROWS_PER_MINUTE + 11
    assert counts(house).count(1) >= refusals.ROWS_PER_MINUTE + 1
