"""Everywhere a call may go: its model first, then those it falls back to, all of them by the same rules."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from guardrails.rules import Rule, Rules
from proxy import reach, routing
from proxy.call import Call
from proxy.choosing import Choice
from proxy.deployments import Catalogue, Deployment, Model
from proxy.errors import ProviderNotAllowed, ZdrUnavailable
from proxy.protocols import chat_completions
from proxy.routing import Bounds
from tests.proxy.calls import body, caller, deployment, model

OWN: dict[str, Any] = {"id": 1, "offered": "own"}
OTHER: dict[str, Any] = {"id": 2, "offered": "other"}
TOOLS = [{"type": "function", "function": {"name": "look"}}]


def named(name: str, *deployments: Deployment, **fields: Any) -> Model:
    return msgspec.structs.replace(model(*deployments, name=name), **fields)


def rule(kind: Any, *entries: str) -> Rules:
    return Rules(rules=(Rule(kind=kind, entries=entries, level="group", node="Engineering", policy="P"),))


def choices(
    *others: Model, own: tuple[Deployment, ...] = (deployment(**OWN),), rules: Rules | None = None, zdr: bool = False,
    session: str = "", members: dict[str, Any] | None = None, strategy: str = "order",
    beyond: tuple[Model, ...] = (),
) -> tuple[Choice, ...]:  # fmt: skip
    call = Call("chat_completions", caller(rules=rules), zdr_asked=zdr, session_asked=session)
    call.request = chat_completions.parse(body(**(members or {})))
    asked = named("own", *own, fallbacks=(*(other.name for other in others), "gone"), strategy=strategy)
    catalogue = Catalogue("e", {found.name: found for found in (asked, *others, *beyond)}, float("inf"))

    async def work() -> tuple[Choice, ...]:
        return reach.choices(call, asked, catalogue)

    return asyncio.run(work())


def told(found: tuple[Choice, ...]) -> list[tuple[int, str]]:
    return [(choice.deployment.id, choice.reason) for choice in found]


def test_the_models_it_falls_back_to_come_after_its_own_in_their_order() -> None:
    second, third = named("second", deployment(id=2)), named("third", deployment(id=3), deployment(id=4, order=2))
    assert told(choices(third, second)) == [
        (1, "order"), (3, "fallback model"), (4, "fallback model"), (2, "fallback model"),
    ]  # fmt: skip


def test_only_one_place_to_go_needs_no_choice() -> None:
    assert told(choices()) == [(1, "only")]


def test_fallbacks_do_not_chain() -> None:
    other, third = named("other", deployment(**OTHER), fallbacks=("third",)), named("third", deployment(id=3))
    assert [number for number, _ in told(choices(other, beyond=(third,)))] == [1, 2]


@pytest.mark.parametrize(
    ("other", "options"),
    [
        ({}, {"rules": rule("blocked_models", "other")}),
        ({}, {"rules": rule("models", "own")}),
        ({"provider": "elsewhere"}, {"rules": rule("providers", "scripted")}),
        ({}, {"own": (deployment(**OWN, zdr=True),), "zdr": True}),
        ({"unpriced": True}, {}),
        ({"kind": "embedding"}, {}),
        ({"capabilities": frozenset({"vision"})}, {"members": {"tools": TOOLS}}),
    ],
)
def test_what_may_not_or_cannot_take_the_call_is_left_out(other: dict[str, Any], options: dict[str, Any]) -> None:
    given = deployment(**OTHER, provider=other.pop("provider", "scripted"))
    if other.pop("unpriced", False):
        given = msgspec.structs.replace(given, price=None)
    assert told(choices(named("other", given, **other), **options)) == [(1, "only")]


def test_capabilities_that_nobody_declared_keep_nothing_out() -> None:
    able = named("other", deployment(**OTHER), capabilities=frozenset({"vision", "tools"}))
    for other in (able, named("other", deployment(**OTHER))):
        assert len(choices(other, members={"tools": TOOLS})) == 2


def test_where_nothing_may_be_retained_only_those_that_promise_it_are_tried() -> None:
    found = choices(own=(deployment(**OWN), deployment(id=2, zdr=True)), zdr=True)
    assert told(found) == [(2, "only")]
    with pytest.raises(ZdrUnavailable):
        choices(zdr=True)
    with pytest.raises(ProviderNotAllowed):
        choices(zdr=True, rules=rule("providers", "elsewhere"))


def test_a_named_session_goes_to_one_place_and_the_cheapest_is_told_by_the_calls_own_size() -> None:
    from billing.pricing import Rates

    equals = (deployment(**OWN), deployment(id=2))
    firsts = {told(choices(own=equals, session="s"))[0] for _ in range(8)}
    assert len(firsts) == 1
    assert firsts.pop()[1] == "sticky"
    dear_input = deployment(id=1, rates=Rates(input=9 * 10**9, output=10**9))
    dear_output = deployment(id=2, rates=Rates(input=10**9, output=9 * 10**9))
    long = {"messages": [{"role": "user", "content": "word " * 900}], "max_tokens": 5}
    assert told(choices(own=(dear_input, dear_output), strategy="price", members=long))[0] == (2, "cheapest")
    assert told(choices(own=(dear_input, dear_output), strategy="price", members={"max_tokens": 900}))[0] == (1, "cheapest")


def test_the_most_it_can_cost_is_that_of_the_dearest_it_may_fall_back_to() -> None:
    from billing.pricing import Rates

    dear = deployment(**OTHER, rates=Rates(input=10**10, output=10**11))
    found = choices(named("other", dear))
    request = chat_completions.parse(body(max_tokens=100))
    own = named("own", deployment(**OWN))
    plan = routing.plan(own, request, choices=found, bounds=Bounds())
    assert plan.worst_case == routing.most((dear,), request, output=100) > routing.most(own.deployments, request, output=100)
