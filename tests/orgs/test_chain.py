"""The arithmetic of the chain, by pure functions; what the database has of it is in test_verification.py."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgs.chain import GENESIS, Fault, Row, canonical, faults_in, link

Rows = list[Row]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FACTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def chained(facts: list[dict[str, Any]]) -> Rows:
    rows, last = [], GENESIS
    for place, found in enumerate(facts, start=1):
        last = link(last, found)
        rows.append(Row(place, last, found))
    return rows


def head_of(rows: Rows) -> tuple[int, str]:
    return (rows[-1].sequence, rows[-1].hash) if rows else (0, GENESIS)


def numbered(count: int) -> Rows:
    return chained([{"sequence": place, "action": "thing.changed"} for place in range(1, count + 1)])


def changed(rows: Rows) -> Rows:
    return [*rows[:2], rows[2]._replace(facts={"sequence": 3, "action": "nothing"}), *rows[3:]]


def swapped(rows: Rows) -> Rows:
    second, third = rows[1], rows[2]
    return [rows[0], second._replace(facts=third.facts), third._replace(facts=second.facts), *rows[3:]]


def written_anew(rows: Rows) -> Rows:
    """From the third on, hashes and all; the head is what it was."""
    return chained([{**row.facts, "action": "nothing"} if row.sequence == 3 else dict(row.facts) for row in rows])


@pytest.mark.parametrize(
    ("tampered", "at", "words"),
    [
        (changed, [3], "changed or moved"),
        (swapped, [2, 3], "changed or moved"),
        (lambda rows: [*rows[:2], *rows[3:]], [3], "event 3 was removed"),
        (lambda rows: [*rows[:1], *rows[3:]], [2], "events 2 to 3 were removed"),
        (lambda rows: rows[1:], [1], "event 1 was removed"),
        (lambda rows: rows[:-1], [5], "event 5 was removed from the end"),
        (lambda rows: [], [1], "events 1 to 5 were removed from the end"),
        (lambda rows: [*rows[:2], rows[1], *rows[2:]], [2], "its place is taken"),
        (lambda rows: numbered(6), [6], "added past the head"),
        (written_anew, [5], "not the one that the head names"),
    ],
)
def test_what_was_done_to_a_chain_is_found_where_it_was_done(tampered: Callable[[Rows], Rows], at: list[int], words: str) -> None:
    rows = numbered(5)
    faults = list(faults_in(tampered(rows), head=head_of(rows)))
    assert [fault.sequence for fault in faults] == at
    assert words in faults[0].words


def test_a_chain_written_anew_with_its_head_shows_against_a_noted_one_only() -> None:
    rows = numbered(5)
    forged = written_anew(rows)
    assert list(faults_in(forged, head=head_of(forged))) == []
    [fault] = faults_in(forged, head=head_of(forged), noted=(4, rows[3].hash))
    assert fault == Fault(4, "event 4 is not the one that was noted: the chain was written anew")
    [missing] = faults_in(rows[:3], head=head_of(rows[:3]), noted=(5, rows[4].hash))
    assert missing.words == "event 5, which was noted, is missing"


def test_an_empty_chain_is_sound_and_a_noted_beginning_is_always_there() -> None:
    assert list(faults_in([], head=(0, GENESIS), noted=(0, GENESIS))) == []
    assert list(faults_in(numbered(3), head=head_of(numbered(3)), noted=(0, GENESIS))) == []


@given(st.lists(FACTS, max_size=6))
def test_every_chain_is_sound_until_one_fact_differs(facts: list[dict[str, Any]]) -> None:
    rows = chained(facts)
    assert list(faults_in(rows, head=head_of(rows))) == []
    for index, row in enumerate(rows):
        other = [*rows[:index], row._replace(facts={**row.facts, "x": 1}), *rows[index + 1 :]]
        assert [fault.sequence for fault in faults_in(other, head=head_of(rows))] == [row.sequence]


@given(FACTS)
def test_the_form_depends_on_what_is_said_not_on_how_it_is_kept(facts: dict[str, Any]) -> None:
    backwards = dict(reversed(facts.items()))
    assert canonical(facts) == canonical(backwards) == canonical(json.loads(json.dumps(facts)))
    assert canonical(facts).isascii()


def test_the_form_is_what_the_documentation_says() -> None:
    """A verifier elsewhere computes it from the export with nothing but SHA-256 and JSON; it may never change."""
    assert canonical({"b": ["ü", None], "a": {"y": 1, "x": True}}) == b'{"a":{"x":true,"y":1},"b":["\\u00fc",null]}'
    assert link(GENESIS, {"a": 1}) == hashlib.sha256(b"0" * 64 + b'\n{"a":1}').hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})
