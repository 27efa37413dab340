"""The judge of closed keys: finds each way to go on serving one, and nothing where a key was heeded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torture.checker import judge
from tests.torture.history import Bounds, Call, Closing, Disturbance, History, Kind, Row
from tests.torture.test_checker import NOON, call, history, names, row

CLOSED = 10.0  # seconds after noon
BOUND = 2.5
SERVED = ["closed keys served"]


def closed(*, key: str = "k7", reopened: float | None = None) -> Closing:
    closing = Closing(key, NOON + CLOSED)
    if reopened is not None:
        closing.reopened = NOON + reopened
    return closing


def seen(*calls: Call, rows: list[Row] | None = None, reopened: float | None = None, **fields: Any) -> History:
    given: dict[str, Any] = {"closings": [closed(reopened=reopened)], "bounds": Bounds(settle=1, lease=4, resolve=2, cut=BOUND)}
    return history(*calls, rows=rows, **{**given, **fields})


def stream(began: float, ended: float, **fields: Any) -> Call:
    """One that was cut, and charged as far as it went."""
    given: dict[str, Any] = {"streamed": True, "outcome": "cut", "code": "key_revoked", "partial": 40}
    return call(0, began, seconds=ended - began, **{**given, **fields})


# --- calls -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("began", "answered_late"), [(CLOSED - 0.001, False), (CLOSED, True), (CLOSED + 0.001, True), (CLOSED + 3600, True)]
)
def test_a_call_that_begins_after_its_key_was_closed_is_not_answered(began: float, answered_late: bool) -> None:
    answered = call(0, began)
    found = seen(answered, rows=[row(answered)] if not answered_late else None)

    assert names(found) == (SERVED if answered_late else [])


def test_a_call_that_is_refused_is_in_order() -> None:
    refused = [call(number, CLOSED + number, outcome="refused", status=401, code="key_revoked") for number in range(4)]

    assert names(seen(*refused)) == []


@pytest.mark.parametrize("worker", range(4))
@pytest.mark.parametrize("outcome", ["complete", "cut", "failed", "broken", "left"])
def test_whatever_comes_of_it_on_whichever_worker(worker: int, outcome: Any) -> None:
    """An answer that has begun is an answer."""
    begun = call(0, CLOSED + 0.2, worker=worker, outcome=outcome)

    assert "closed keys served" in names(seen(begun, rows=[]))


def test_another_key_may_go_on() -> None:
    assert names(seen(call(0, CLOSED + 1), closings=[closed(key="k8")])) == []


def test_a_key_that_was_opened_again_may_be_answered_from_then_on() -> None:
    assert names(seen(call(0, CLOSED + 3), reopened=CLOSED + 2)) == []
    assert names(seen(call(0, CLOSED + 0.2, seconds=1), reopened=CLOSED + 2)) == SERVED
    slow = call(0, CLOSED + 1, seconds=2)  # where a worker had to be started first, it was read after the key was opened again
    assert names(seen(slow, rows=[row(slow, status="ok")], reopened=CLOSED + 2)) == [], "it may have waited to be admitted"
    late = Row("c0", "k7", slow.subjects, NOON + CLOSED + 2.1, slow.ended, "ok", 100)
    assert names(seen(slow, rows=[late], reopened=CLOSED + 2)) == []
    early = Row("c0", "k7", slow.subjects, NOON + CLOSED + 1, NOON + CLOSED + 1.9, "ok", 100)
    assert names(seen(slow, rows=[early], reopened=CLOSED + 2)) == SERVED, "its row was there before the key was opened again"


# --- rows --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("after", "charged", "found"), [(0.003, 40, True), (0.002, 40, False), (-1, 40, False), (5, 0, False)])
def test_who_left_too_early_to_see_an_answer_is_not_charged_either(after: float, charged: int, found: bool) -> None:
    left = call(0, CLOSED - 2, seconds=1, outcome="left", status=0, call_id="", partial=40)
    begun = NOON + CLOSED + after
    charge = Row("unseen", "k7", left.subjects, begun, begun + 0.5, "cancelled", charged)

    assert ("closed keys served" in names(seen(left, rows=[charge]))) == found


# --- streams -----------------------------------------------------------------------------------
@pytest.mark.parametrize(("ended", "late"), [(CLOSED + 0.9, False), (CLOSED + BOUND, False), (CLOSED + BOUND + 0.01, True)])
@pytest.mark.parametrize("outcome", ["cut", "complete"])
def test_a_stream_ends_within_a_second_and_the_slowness_of_the_machine(ended: float, late: bool, outcome: Any) -> None:
    assert names(seen(stream(CLOSED - 1, ended, outcome=outcome))) == (SERVED if late else [])


def test_an_answer_in_one_piece_that_was_under_way_may_still_come() -> None:
    assert names(seen(call(0, CLOSED - 1, seconds=10))) == []


@pytest.mark.parametrize(("whole", "late"), [(CLOSED - 0.5, False), (CLOSED + BOUND, False), (CLOSED + BOUND + 0.01, True)])
@pytest.mark.parametrize("outcome", ["complete", "failed"])
def test_the_end_of_a_stream_whose_provider_had_finished_may_wait_for_the_ledger(whole: float, late: bool, outcome: Any) -> None:
    waited = stream(CLOSED - 1, CLOSED + 9, outcome=outcome, whole_at=NOON + whole)

    assert names(seen(waited)) == (SERVED if late else [])


def test_a_stream_of_a_key_that_was_soon_opened_again_may_go_on() -> None:
    going_on = stream(CLOSED - 1, CLOSED + 6)

    assert names(seen(going_on, reopened=CLOSED + 1)) == []
    assert names(seen(going_on, reopened=CLOSED + 5)) == SERVED


def test_a_stream_that_waited_for_a_worker_until_its_key_was_open_again_was_not_open_before() -> None:
    waited = stream(CLOSED - 1, CLOSED + 10, outcome="complete")
    begun = [Row("c0", "k7", waited.subjects, NOON + CLOSED + admitted, waited.ended, "ok", 100) for admitted in (9, -0.5)]

    assert names(seen(waited, rows=[begun[0]], reopened=CLOSED + 5)) == []
    assert names(seen(waited, rows=[begun[1]], reopened=CLOSED + 5)) == SERVED


@pytest.mark.parametrize(
    ("kind", "began", "ended", "allowed_until"),
    [
        ("stop", 1.0, 8.0, 8.0 + 2 + BOUND),
        ("flush", -3.0, 0.5, 0.5 + 2 + BOUND),
        ("restart", -3.0, -0.5, BOUND),
        ("stop", BOUND + 0.1, 20.0, BOUND),
        ("kill", 0.5, 3.0, BOUND),
    ],
)
def test_who_cannot_ask_whether_the_key_is_open_cuts_as_soon_as_it_can(
    kind: Kind, began: float, ended: float, allowed_until: float
) -> None:
    broken = Disturbance(kind, NOON + CLOSED + began, NOON + CLOSED + ended, worker=0)

    for over, found in ((-0.01, []), (0.01, SERVED)):
        assert names(seen(stream(CLOSED - 1, CLOSED + allowed_until + over), disturbances=[broken])) == found


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 8), st.booleans()), max_size=12), st.booleans())
def test_an_engine_that_asks_each_time_passes_and_one_that_remembers_keys_is_caught(
    asked: list[tuple[float, float, bool]], heeds: bool
) -> None:
    """`heeds`: refuses what begins later, cuts streams half a second after the key was closed."""
    made = []
    for number, (began, seconds, streamed) in enumerate(asked):
        if heeds and began >= CLOSED:
            made.append(call(number, began, 0.01, outcome="refused", status=401))
        elif heeds and streamed and began + seconds > CLOSED + 0.5:
            made.append(call(number, began, CLOSED + 0.5 - began, streamed=True, outcome="cut"))
        else:
            made.append(call(number, began, seconds, streamed=streamed))
    ignored = [
        one for one in made if one.status == 200 and (one.began >= NOON + CLOSED or (one.streamed and one.ended > NOON + 12.5))
    ]

    findings = judge(seen(*made, rows=[])).closed

    assert len(findings) == len(ignored)
    assert not (heeds and findings)
