"""`x-gatehouse-route`, read by the grammar of RFC 9651: where the call went, why, and the alternatives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger import Attempt
from proxy.auto import NOT_ALLOWED, Decision
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.protocols import chat_completions
from proxy.route_header import MOST_BYTES, route_of
from tests.proxy.calls import body, caller, deployment, plan

# Bare items that the header may have: a Decimal, an Integer, a String, a Token.
BARE = (
    r"(?P<decimal>\d{1,12}\.\d{1,3})",
    r"(?P<integer>\d{1,15})",
    r'(?P<string>"(?:[ !#-\[\]-~]|\\["\\])*")',
    r"(?P<token>[A-Za-z*][\w!#$%&'*+\-.^`|~:/]*)",
)
ITEM, NAME = re.compile("|".join(BARE), re.ASCII), re.compile(r"; *([a-z*][a-z0-9_\-.*]*)=")
Member = tuple[Any, dict[str, Any]]


def parsed(header: str) -> list[Member]:
    """A List of Items with parameters. Fails where the grammar is broken."""
    members, at = [], 0
    while True:
        bare, at = _bare(header, at)
        parameters = {}
        while found := NAME.match(header, at):
            parameters[found[1]], at = _bare(header, found.end())
        members.append((bare, parameters))
        if at == len(header):
            return members
        assert header[at : at + 2] == ", ", header[at:]
        at += 2


def _bare(header: str, at: int) -> tuple[Any, int]:
    found = ITEM.match(header, at)
    assert found is not None, header[at:]
    text = found[0]
    if found["decimal"]:
        return float(text), found.end()
    if found["integer"]:
        return int(text), found.end()
    return (re.sub(r"\\(.)", r"\1", text[1:-1]) if found["string"] else text), found.end()


def at(number: int, *, provider: str = "", **fields: Any) -> Deployment:
    return deployment(id=number, provider=provider or f"p{number}", model=f"m{number}", **fields)


def call(*of: Deployment, reasons: tuple[str, ...] = (), served: int = 0, decision: Decision | None = None) -> Call:
    made = Call("chat_completions", caller())
    made.request = chat_completions.parse(body())
    made.plan = plan(*of, reasons=reasons or ("order",) * len(of))
    made.served_by, made.decision = made.plan.deployments[served], decision
    return made


def tried(of: Call, *statuses: str) -> Iterator[Attempt]:
    for number, (place, status) in enumerate(zip(of.planned.deployments, statuses, strict=False), 1):
        yield Attempt(of.id, number, place.id, place.target.provider_name, place.target.model, status, None, "", 1)


def test_one_deployment_has_no_alternatives() -> None:
    assert route_of(call(at(1), reasons=("only",))) == "p1; reason=only; attempts=0"


def test_the_others_stand_in_their_order_with_how_they_ended() -> None:
    made = call(at(1), at(2), at(3), at(4), reasons=("order", "order", "fallback model", "circuit open"), served=2)
    made.attempts = list(tried(made, "failed", "skipped", "ok"))
    assert parsed(route_of(made)) == [
        ("p3", {"reason": "fallback", "attempts": 2}),
        ("p1", {"alternative": "deployment", "model": "m1", "reason": "order", "ended": "failed"}),
        ("p2", {"alternative": "deployment", "model": "m2", "reason": "order", "ended": "skipped"}),
        ("p4", {"alternative": "deployment", "model": "m4", "reason": "circuit open"}),
    ]


def test_what_auto_scored_and_passed_over_is_told_even_where_it_had_one_place_to_go() -> None:
    passed_over = (("large", "dearer than the request needs"), ("3-mini", "has no vision"))
    made = call(at(1), reasons=("only",), decision=Decision("auto", "small", 0.312, passed_over))
    assert parsed(route_of(made)) == [
        ("p1", {"reason": "only", "attempts": 0, "auto": "small", "need": 0.312}),
        ("large", {"alternative": "model", "reason": "dearer than the request needs"}),
        ("3-mini", {"alternative": "model", "reason": "has no vision"}),
    ]


def test_models_that_the_key_may_not_use_are_not_named() -> None:
    passed_over = (("secret", NOT_ALLOWED), ("large", "dearer than the request needs"))
    made = call(at(1), reasons=("only",), decision=Decision("auto", "small", 0.312, passed_over))
    assert "secret" not in route_of(made)
    assert [member for member, _ in parsed(route_of(made))] == ["p1", "large"]


def test_an_own_key_that_failed_is_told_apart_from_the_operators_that_answered() -> None:
    made = call(at(1, own_key_id=7), at(1), served=1)
    made.attempts = list(tried(made, "failed", "ok"))
    assert parsed(route_of(made))[1][1]["ended"] == "failed"


@pytest.mark.parametrize("count", [1, 8, 40])
def test_what_finds_no_room_is_counted(count: int) -> None:
    made = call(*(at(number, provider="x" * 60) for number in range(count + 1)))
    header = route_of(made)
    (_, first), *others = parsed(header)
    assert len(header) <= MOST_BYTES
    assert len(others) + first.get("more", 0) == count
    assert ("more" in first) == (count > 8)


NAMES = st.text(max_size=90) | st.sampled_from(['a"b\\c', "gpt-5.2:latest", "eu/m", "é", "*", "1st", "", "\r\nx-evil: 1"])


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=9), st.lists(st.tuples(NAMES, NAMES), max_size=9))
def test_whatever_the_names_are_it_is_one_line_of_the_grammar(
    places: list[tuple[str, str]], models: list[tuple[str, str]]
) -> None:
    of = [deployment(id=number, provider=name, model=model) for number, (name, model) in enumerate(places)]
    decision = Decision("auto", models[0][0], 0.5, tuple(models)) if models else None
    header = route_of(call(*of, decision=decision))

    found = parsed(header)

    assert header.isascii()
    assert header.isprintable()
    assert len(header) <= MOST_BYTES
    assert len(found) + found[0][1].get("more", 0) == len(places) + len(models)
    shown = "".join(char if " " <= char <= "~" else "?" for char in places[0][0][:64])
    assert found[0][0] == shown
