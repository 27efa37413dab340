"""A run that did less than it was asked to do fails, and says what it did not do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.torture import table
from tests.torture.checker import judge
from tests.torture.history import Disturbance, History, Kind, Order
from tests.torture.test_checker import NOON, call, history, names, row

ORDER = Order(calls=3, kills=2, flushes=1, restarts=1, stops=1, stop_seconds=60)
LOAD_SECONDS = 400.0


def broken(kind: Kind, began: float = 100.0, seconds: float = 2.0) -> Disturbance:
    return Disturbance(kind, NOON + began, NOON + began + seconds, worker=0)


DONE = [broken("kill"), broken("kill", 200), broken("flush"), broken("restart"), broken("stop", seconds=61)]


def did(*disturbances: Disturbance, calls: int = 3, **fields: Any) -> History:
    made = [call(number, number) for number in range(calls)]
    return history(*made, disturbances=list(disturbances), order=ORDER, loaded_until=NOON + LOAD_SECONDS, **fields)


def said(found: History) -> list[str]:
    return [finding.sentence for finding in judge(found).not_done]


def test_who_did_all_of_it_passes() -> None:
    assert names(did(*DONE)) == []
    assert names(did(*DONE, broken("kill"), calls=9)) == [], "or more"


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (0, "1 of 2 SIGKILLs of workers under load"),
        (2, "0 of 1 flushes of Valkey under load"),
        (3, "0 of 1 restarts of Valkey under load"),
        (4, "0 of 1 stops of PostgreSQL for 60 s under load"),
    ],
)
def test_whatever_did_not_happen_is_named(missing: int, sentence: str) -> None:
    found = did(*(one for number, one in enumerate(DONE) if number != missing))

    assert names(found) == ["not done"]
    assert said(found) == [sentence]


def test_too_few_calls_are_named() -> None:
    assert said(did(*DONE, calls=2)) == ["2 of 3 calls under load"]


@pytest.mark.parametrize("number", range(len(DONE)))
def test_what_broke_when_nobody_called_any_more_does_not_count(number: int) -> None:
    late = replace(DONE[number], began=NOON + LOAD_SECONDS + 1, ended=NOON + LOAD_SECONDS + 70)

    assert names(did(*(late if at == number else one for at, one in enumerate(DONE)))) == ["not done"]


@pytest.mark.parametrize(("began", "seconds"), [(100.0, 59.0), (LOAD_SECONDS - 59, 61.0)])
def test_postgresql_must_have_been_away_as_long_as_was_asked_and_calls_gone_on(began: float, seconds: float) -> None:
    assert said(did(*DONE[:-1], broken("stop", began, seconds))) == ["0 of 1 stops of PostgreSQL for 60 s under load"]


def test_the_table_says_it_in_a_line_of_its_own() -> None:
    found = did(*DONE[1:])
    verdict = judge(found)

    text = table.text(table.figures(found, verdict, seconds=1.0, changes=Counter()), verdict, rollover="")

    assert "\n  not done: 1 of 2 SIGKILLs of workers under load\n" in text
    assert text.endswith("NOT EXACT.")


@pytest.mark.parametrize("wait", [-0.001, 0.001, 60.0])
def test_answers_that_went_out_before_postgresql_had_their_row_are_counted(wait: float) -> None:
    one, other = call(0, 0), call(1, 5)
    found = history(one, other, rows=[row(one, after=1.0 + wait), row(other)])

    assert table.answered_before_recorded(found) == (wait > 0)
