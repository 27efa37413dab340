"""The judge finds each of the failures in a history made by hand, and nothing in a clean one."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torture.checker import judge, unexplained
from tests.torture.history import Bounds, Budget, Call, Card, Disturbance, History, Refusal, Row
from tests.torture.holding import held_until

NOON = 1_763_640_000.0  # 2025-11-20 12:00 UTC
MIDNIGHT = NOON + 12 * 3600
SUBJECTS = ("org", "g1", "k7", "pool")
REFUSAL = Refusal("platform", "day")


def call(number: int, began: float, seconds: float = 1.0, **fields: Any) -> Call:
    """A complete answer for 100 nano-dollars, unless told otherwise; `began` in seconds after noon."""
    given: dict[str, Any] = {
        "number": number, "key": "k7", "subjects": SUBJECTS, "worker": 0, "began": NOON + began, "ended": NOON + began + seconds,
        "worst": 100, "full": 100, "partial": 100, "outcome": "complete", "call_id": f"c{number}", "status": 200,
    }  # fmt: skip
    return Call(**{**given, **fields})


def refused(number: int, began: float, **fields: Any) -> Call:
    given: dict[str, Any] = {"seconds": 0.01, "outcome": "refused", "status": 403, "code": "budget_exceeded", "refusal": REFUSAL}
    return call(number, began, **{**given, **fields})


def row(of: Call, *, after: float | None = None, **fields: Any) -> Row:
    """The row that belongs to a call, recorded just before its end; `after` its beginning otherwise."""
    recorded = of.ended - 0.001 if after is None else of.began + after
    given: dict[str, Any] = {"status": "ok", "charged": of.full, "reserved": of.worst}
    return Row(of.call_id, of.key, of.subjects, of.began + 0.001, recorded, **{**given, **fields})


def budget(value: int, *, subject: str = "g1", node: str = "platform", **fields: Any) -> Budget:
    made = Budget(node, subject, fields.pop("window", "day"))
    made.begin(value, NOON - 3600)
    return made


def history(*calls: Call, rows: list[Row] | None = None, **fields: Any) -> History:
    """With a row for every complete answer, and a day budget of 1,000 on g1."""
    given: dict[str, Any] = {"budgets": [budget(1000)], "bounds": Bounds(settle=1, lease=4, resolve=2)}
    found = [row(one) for one in calls if one.outcome == "complete"] if rows is None else rows
    return History(UTC, list(calls), found, **{**given, **fields})


def names(found: History) -> list[str]:
    """Of every kind of failure that the judge finds."""
    return [name for name, findings in judge(found).findings.items() if findings]


def test_a_clean_history_passes() -> None:
    answered = [call(number, number * 0.1) for number in range(10)]
    last = refused(10, 2)
    left = call(11, 3, outcome="left", full=100)
    clean = history(*answered, last, left, rows=[*map(row, answered), row(left, status="cancelled", charged=0)])
    clean.cards = [Card("k7", "platform", "day", spent=1000, held=0, at=NOON + 60)]

    verdict = judge(clean)

    assert verdict.sound, verdict.findings


# --- overshoot --------------------------------------------------------------------------------
def test_one_nano_dollar_too_much_is_overshoot() -> None:
    answered = [call(number, number) for number in range(10)]
    dear = call(10, 20, full=1, worst=1)

    assert names(history(*answered)) == []
    verdict = judge(history(*answered, dear))

    assert [finding.nano_usd for finding in verdict.overshoot] == [1]


def test_what_counts_is_the_day_in_which_a_row_is_recorded() -> None:
    night = MIDNIGHT - NOON
    before = [call(number, night - 20 + number) for number in range(10)]
    across = call(10, night - 0.5)
    after = [call(11 + number, night + 1 + number) for number in range(9)]

    assert names(history(*before, across, *after)) == []
    assert names(history(*before, across, *after, call(20, night + 30))) == ["overshoot"]


def test_a_lowered_limit_binds_calls_that_begin_later_and_no_others() -> None:
    lowered = budget(1000)
    lowered.begin(500, NOON + 10)
    lowered.done(NOON + 10.1)
    running = [call(number, 9, seconds=3) for number in range(9)]
    late = call(9, 15)

    assert names(history(*running, budgets=[lowered])) == []
    assert names(history(*running, late, budgets=[lowered])) == ["overshoot"]


def test_a_raised_limit_counts_from_the_moment_it_is_being_raised() -> None:
    raised = budget(500)
    raised.begin(1000, NOON + 10)
    raised.done(NOON + 11)
    early = [call(number, 0) for number in range(5)]

    assert names(history(*early, *(call(5 + number, 10.5) for number in range(5)), budgets=[raised])) == []
    assert names(history(*early, call(5, 1), budgets=[raised])) == ["overshoot"]


def test_a_change_that_may_not_have_been_made_leaves_both_values_possible() -> None:
    doubtful = budget(1000)
    doubtful.begin(200, NOON + 1)
    answered = [call(number, 2 + number) for number in range(10)]
    no = refused(10, 5, outcome="refused")

    assert names(history(*answered, no, budgets=[doubtful])) == []


def test_the_credit_pool_is_a_budget_like_any_other() -> None:
    pool = budget(100, subject="pool", node="credit pool", window="total")

    assert names(history(call(0, 0), budgets=[pool])) == []
    assert names(history(call(0, 0), call(1, 0), budgets=[pool])) == ["overshoot"]


def test_the_error_of_an_estimate_is_slack_and_not_overshoot() -> None:
    guessed = call(0, 0, full=1010, worst=1000, partial=1010)
    found = history(guessed, rows=[row(guessed, estimated=True)])

    verdict = judge(found)

    assert verdict.sound
    assert verdict.slack_nano_usd == 10
    assert names(history(guessed, rows=[row(guessed)])) == ["overshoot"]


@given(st.lists(st.tuples(st.floats(0, 3600), st.integers(0, 300)), min_size=1, max_size=30), st.integers(0, 3000))
def test_with_one_limit_overshoot_is_the_sum_beyond_it(charges: list[tuple[float, int]], limit: int) -> None:
    calls = [call(number, at, full=full, worst=full) for number, (at, full) in enumerate(charges)]

    verdict = judge(history(*calls, budgets=[budget(limit)]))

    beyond = sum(full for _, full in charges) - limit
    assert [finding.nano_usd for finding in verdict.overshoot] == ([beyond] if beyond > 0 else [])


# --- phantom refusals -------------------------------------------------------------------------
def test_a_refusal_with_room_is_a_phantom() -> None:
    answered = [call(number, number) for number in range(9)]

    verdict = judge(history(*answered, refused(9, 20)))

    assert len(verdict.phantom) == 1
    assert "0 to spare" in verdict.phantom[0].sentence


def test_calls_that_were_running_justify_a_refusal_and_those_that_ended_do_not() -> None:
    running = [call(number, 0, seconds=5, full=10) for number in range(10)]

    assert names(history(*running, refused(10, 3))) == []
    assert names(history(*running, refused(10, 5.01))) == ["phantom refusals"]


def test_refused_calls_hold_nothing() -> None:
    many = [refused(number, 0, seconds=3) for number in range(20)]

    assert len(judge(history(*many)).phantom) == 20


@pytest.mark.parametrize("outcome", ["left", "failed", "broken"])
def test_what_nobody_waits_for_may_be_held_a_little_longer(outcome: Any) -> None:
    ended = [call(number, 0, outcome=outcome) for number in range(10)]

    assert names(history(*ended, refused(10, 1.9), rows=[])) == []
    assert names(history(*ended, refused(10, 2.1), rows=[])) == ["phantom refusals"]


def test_a_killed_worker_holds_until_its_lease_is_over_and_no_longer() -> None:
    killed = Disturbance("kill", NOON + 1, NOON + 2, worker=0)
    lost = [call(number, 0.5, seconds=0.5, outcome="broken") for number in range(10)]
    elsewhere = [replace(one, worker=1) for one in lost]

    assert names(history(*lost, refused(10, 6.9), rows=[], disturbances=[killed])) == []
    assert names(history(*lost, refused(10, 7.1), rows=[], disturbances=[killed])) == ["phantom refusals"]
    assert names(history(*elsewhere, refused(10, 6.9), rows=[], disturbances=[killed])) == ["phantom refusals"]


def test_a_row_that_waited_for_postgresql_was_held_until_it_was_written() -> None:
    answered = [call(number, 0) for number in range(10)]
    late = [row(one, after=5) for one in answered]

    assert names(history(*answered, refused(10, 4), rows=late)) == []
    assert names(history(*answered[:9], refused(10, 4), rows=late[:9])) == ["phantom refusals"]


def test_a_call_is_not_counted_as_held_and_charged_at_once() -> None:
    ending = [call(number, 0) for number in range(9)]

    assert names(history(*ending, refused(9, 0.9995))) == ["phantom refusals"]


def test_yesterdays_spending_justifies_nothing_today() -> None:
    night = MIDNIGHT - NOON
    answered = [call(number, night - 20 + number) for number in range(10)]

    assert names(history(*answered, refused(10, night + 5))) == ["phantom refusals"]
    assert names(history(*answered, refused(10, night - 0.005))) == []


def test_a_refusal_by_a_limit_nobody_set_is_a_phantom() -> None:
    assert names(history(refused(0, 0, refusal=Refusal("elsewhere", "day")))) == ["phantom refusals"]


def test_a_disturbance_of_a_server_makes_holds_last_until_all_are_resolved() -> None:
    stop = Disturbance("stop", NOON + 0.5, NOON + 10)
    assert held_until(call(0, 0, outcome="failed"), None, [stop], Bounds(settle=1, lease=4, resolve=2)) == NOON + 16
    assert held_until(call(0, 0, outcome="failed"), None, [replace(stop, began=NOON + 3)], Bounds(settle=1)) == NOON + 2


# --- lost rows and double charges -------------------------------------------------------------
def test_a_complete_answer_without_a_row_is_lost() -> None:
    assert names(history(call(0, 0), rows=[])) == ["lost rows"]
    assert names(history(call(0, 0, call_id=""), rows=[])) == ["lost rows"]


@pytest.mark.parametrize("fields", [{"charged": 99}, {"status": "abandoned", "charged": 0}, {"status": "cancelled"}])
def test_a_complete_answer_with_another_row_than_its_own_is_lost(fields: dict[str, Any]) -> None:
    answered = call(0, 0)

    assert names(history(answered, rows=[row(answered, **fields)])) == ["lost rows"]


def test_an_incomplete_answer_needs_no_row() -> None:
    assert names(history(call(0, 0, outcome="broken"), call(1, 0, outcome="left"), call(2, 0, outcome="failed"), rows=[])) == []


def test_one_call_with_two_rows_is_charged_twice() -> None:
    answered = call(0, 0)

    assert names(history(answered, rows=[row(answered), row(answered)])) == ["double charges"]


def test_more_than_usage_times_price_is_a_double_charge() -> None:
    answered = call(0, 0)

    verdict = judge(history(answered, rows=[row(answered, charged=101)]))

    assert [finding.nano_usd for finding in verdict.double] == [1]


@pytest.mark.parametrize(
    ("outcome", "charged", "allowed"),
    [
        ("left", 40, True),
        ("left", 41, False),
        ("broken", 40, True),
        ("cut", 40, True),
        ("failed", 1, False),
        ("refused", 1, False),
    ],
)
def test_who_pays_for_what(outcome: Any, charged: int, allowed: bool) -> None:
    ended = call(0, 0, outcome=outcome, partial=40)

    assert names(history(ended, rows=[row(ended, charged=charged)])) == ([] if allowed else ["double charges"])


def test_a_charge_that_no_call_explains_is_a_double_charge() -> None:
    answered = call(0, 0)
    stray = replace(row(answered), call_id="unheard-of")

    assert names(history(answered, rows=[row(answered), stray])) == ["double charges"]


def test_a_caller_who_left_before_the_headers_explains_one_charge_and_only_one() -> None:
    left = call(0, 0, outcome="left", call_id="")
    one, two = (replace(row(left), call_id=name) for name in ("a", "b"))

    assert names(history(left, rows=[one])) == []
    assert names(history(left, rows=[one, two])) == ["double charges"]
    assert names(history(replace(left, key="k8"), rows=[one])) == ["double charges"]
    assert names(history(replace(left, began=NOON + 5, ended=NOON + 6), rows=[one])) == ["double charges"]


@given(st.integers(0, 12), st.integers(0, 4), st.integers(0, 1000))
def test_every_row_finds_its_call_where_that_is_possible_at_all(count: int, strays: int, seed: int) -> None:
    """However calls overlap: each gave one row, so only rows beyond those can be left over."""
    drawn = random.Random(seed)  # noqa: S311
    calls = [call(number, drawn.uniform(0, 3), full=drawn.randint(1, 9) * 10, call_id="") for number in range(count)]
    calls = [replace(one, outcome="broken", partial=one.full) for one in calls]
    rows = [replace(row(one), call_id=f"r{one.number}") for one in calls]
    extra = [replace(row(call(99, 0)), call_id=f"x{number}", key="k9") for number in range(strays)]
    mixed = [*rows, *extra]
    drawn.shuffle(mixed)

    assert len(unexplained(mixed, calls)) == strays


# --- at rest ----------------------------------------------------------------------------------
def test_anything_still_held_at_rest_is_unsettled() -> None:
    card = Card("k7", "platform", "day", spent=0, held=5, at=NOON + 60)

    assert names(history(cards=[card])) == ["unsettled holds"]


@pytest.mark.parametrize("spent", [0, 99, 101])
def test_a_counter_that_is_not_the_ledgers_sum_differs(spent: int) -> None:
    card = Card("k7", "platform", "day", spent=spent, held=0, at=NOON + 60)

    assert names(history(call(0, 0), cards=[card])) == ["differing counters"]
    assert names(history(call(0, 0), cards=[replace(card, spent=100)])) == []


def naive_history(seed: int, *, exact: bool) -> History:
    """Calls of random lengths against one limit, by an engine that checks what was charged, or what was charged and held."""
    drawn = random.Random(seed)  # noqa: S311
    made: list[Call] = []
    for number in range(60):
        began = number * 0.05
        finished = [one for one in made if one.outcome == "complete" and one.ended <= NOON + began]
        running = [one for one in made if one.outcome == "complete" and one.ended > NOON + began]
        known = len(finished) + (len(running) if exact else 0)
        admit = known + 1 <= 10
        made.append(call(number, began, seconds=drawn.uniform(0.2, 1)) if admit else refused(number, began))
    return history(*made)


@given(st.integers(0, 10_000))
def test_an_engine_that_reserves_passes_and_one_that_checks_and_charges_is_caught(seed: int) -> None:
    assert names(naive_history(seed, exact=True)) == []
    assert names(naive_history(seed, exact=False)) == ["overshoot"]
