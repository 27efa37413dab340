"""The order in which deployments are tried: every one once, by the model's strategy, sessions where they were."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.choosing import AS_FAST, Choice, Lots, Stage, choose
from proxy.deployments import Deployment
from proxy.health.state import UNKNOWN, Circuit, Health
from tests.proxy.calls import deployment

STRATEGIES = ("order", "price", "latency")
CIRCUITS: tuple[Circuit, ...] = ("closed", "half-open", "open")


class Known:
    """What the workers are said to know, by deployment id; of all others nothing."""

    def __init__(self, circuits: dict[int, Circuit] | None = None, healths: dict[int, Health] | None = None) -> None:
        self.circuits = circuits or {}
        self.healths = healths or {}

    def health(self, deployment: Deployment) -> Health:
        return self.healths.get(deployment.id, UNKNOWN)

    def circuit(self, deployment: Deployment) -> Circuit:
        return self.circuits.get(deployment.id, "closed")


def free(_: Deployment) -> int:
    return 0


def seeded(seed: int) -> Callable[[], float]:
    return random.Random(seed).random  # noqa: S311 - the same in every run


def ids(choices: Sequence[Choice]) -> list[int]:
    return [choice.deployment.id for choice in choices]


def chosen(
    *deployments: Deployment,
    strategy: str = "order",
    session: bytes | None = None,
    known: Known | None = None,
    cost: Callable[[Deployment], int] = free,
    chance: Callable[[], float] = lambda: 0.5,
) -> tuple[Choice, ...]:
    return choose([Stage(deployments, strategy)], known=known or Known(), cost=cost, lots=Lots(session, chance))


def takes(seconds: float) -> Health:
    """Whose usual answer takes so long."""
    return Health(first_token_ms=0, tokens_per_second=300 / seconds)


def situation_of(drawn: list[Any], cut: int, strategies: tuple[str, str], session: bytes | None) -> dict[str, Any]:
    """The deployments are those of a model and of another to fall back to."""
    deployments = [deployment(id=number, order=order, weight=weight) for number, (order, weight, _, _, _) in enumerate(drawn)]
    known = Known(
        {number: circuit for number, (_, _, circuit, _, _) in enumerate(drawn)},
        {number: health for number, (_, _, _, health, _) in enumerate(drawn)},
    )
    parts = (deployments[:cut], deployments[cut:])
    stages = [Stage(part, strategy) for part, strategy in zip(parts, strategies, strict=True) if part]
    return {"stages": stages, "known": known, "cost": lambda one: drawn[one.id][4], "session": session}


# Order, weight, circuit, health and price are drawn at once: each draw has its price.
SITUATIONS = st.builds(
    situation_of,
    st.lists(
        st.sampled_from(
            list(product((1, 2, 3), range(6), CIRCUITS, (UNKNOWN, takes(1), takes(1.1), takes(9)), range(4))),
        ),
        min_size=1,
        max_size=7,
    ),
    st.integers(1, 7),
    st.sampled_from(list(product(STRATEGIES, STRATEGIES))),
    st.none() | st.binary(max_size=20),
)


def choose_in(situation: dict[str, Any], *, seed: int = 0, **changed: Any) -> tuple[Choice, ...]:
    given = {**situation, **changed}
    lots = Lots(given.pop("session"), seeded(seed))
    return choose(given.pop("stages"), lots=lots, **given)


@given(SITUATIONS, st.integers(0, 9))
def test_every_deployment_is_tried_once_and_those_with_an_open_circuit_last(situation: dict[str, Any], seed: int) -> None:
    found = choose_in(situation, seed=seed)
    every = [one for stage in situation["stages"] for one in stage.deployments]
    assert sorted(ids(found)) == sorted(one.id for one in every)
    is_open = [situation["known"].circuit(choice.deployment) == "open" for choice in found]
    assert is_open == sorted(is_open) or len(found) == 1
    assert (
        all((choice.reason == "circuit open") == opened for choice, opened in zip(found, is_open, strict=True)) or len(every) == 1
    )


@given(SITUATIONS, st.integers(0, 9))
def test_models_come_in_their_turn_and_declared_order_before_any_strategy(situation: dict[str, Any], seed: int) -> None:
    place = {one.id: (number, one.order) for number, stage in enumerate(situation["stages"]) for one in stage.deployments}
    found = choose_in(situation, seed=seed, known=Known(healths=situation["known"].healths))
    places = [place[number] for number in ids(found)]
    assert places == sorted(places)


@given(SITUATIONS)
def test_a_session_stays_where_it_is_whatever_else_chance_decides(situation: dict[str, Any]) -> None:
    stages = [stage._replace(strategy="order") for stage in situation["stages"]]
    found = [ids(choose_in(situation, seed=seed, stages=stages, session=b"session")) for seed in range(4)]
    assert found == [found[0]] * 4


@given(SITUATIONS, st.data())
def test_a_session_moves_only_if_its_deployment_goes(situation: dict[str, Any], data: st.DataObject) -> None:
    """Rendezvous: what one loses is spread, what the others had stays."""
    deployments = tuple(msgspec.structs.replace(one, order=1) for one in situation["stages"][0].deployments)
    before = ids(chosen(*deployments, session=b"s"))
    gone = data.draw(st.sampled_from(deployments))
    left = tuple(one for one in deployments if one is not gone)
    if left:
        assert ids(chosen(*left, session=b"s")) == [number for number in before if number != gone.id]
    opened = chosen(*deployments, session=b"s", known=Known({gone.id: "open"}))
    if len(deployments) > 1:
        assert ids(opened) == [number for number in before if number != gone.id] + [gone.id]


@given(SITUATIONS, st.integers(0, 9))
def test_by_price_no_cheaper_one_comes_later(situation: dict[str, Any], seed: int) -> None:
    equals = tuple(msgspec.structs.replace(one, order=1) for one in situation["stages"][0].deployments)
    found = choose_in(situation, seed=seed, stages=[Stage(equals, "price")], known=Known())
    costs = [situation["cost"](choice.deployment) for choice in found]
    assert costs == sorted(costs)
    if len(found) > 1:
        assert [choice.reason for choice in found] == ["cheapest" if cost == costs[0] else "dearer" for cost in costs]


@given(SITUATIONS)
def test_by_latency_the_fast_come_first_and_the_unmeasured_last(situation: dict[str, Any]) -> None:
    equals = tuple(msgspec.structs.replace(one, order=1) for one in situation["stages"][0].deployments)
    known = Known(healths=situation["known"].healths)
    found = chosen(*equals, strategy="latency", known=known)
    times = [known.health(choice.deployment).answer_ms for choice in found]
    measured = [time for time in times if time is not None]
    assert times[: len(measured)] == measured
    fast = [time for time in measured if time <= AS_FAST * min(measured)]
    assert measured[: len(fast)] == fast
    assert measured[len(fast) :] == sorted(measured[len(fast) :])


def test_sessions_are_spread_by_weight() -> None:
    light, heavy = deployment(id=1, weight=1), deployment(id=2, weight=3)
    first = Counter(ids(chosen(light, heavy, session=f"session {number}".encode()))[0] for number in range(2000))
    assert 0.70 < first[2] / 2000 < 0.80


def test_calls_without_a_session_are_drawn_by_weight() -> None:
    light, heavy = deployment(id=1, weight=1), deployment(id=2, weight=3)
    chance = seeded(7)
    first = Counter(ids(chosen(light, heavy, chance=chance))[0] for _ in range(2000))
    assert 0.70 < first[2] / 2000 < 0.80


def test_what_is_slow_is_measured_again_now_and_then() -> None:
    known = Known(healths={1: takes(1), 2: takes(10)})
    equals = (deployment(id=1), deployment(id=2))
    chance = seeded(7)
    first = Counter(ids(chosen(*equals, strategy="latency", known=known, chance=chance))[0] for _ in range(4000))
    assert 0.01 < first[2] / 4000 < 0.05


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({}, ["weight", "weight"]),
        ({"session": b"s"}, ["sticky", "sticky"]),
        ({"strategy": "price", "cost": lambda one: one.id}, ["cheapest", "dearer"]),
        ({"strategy": "latency", "known": Known(healths={1: takes(1), 2: takes(2)})}, ["fastest", "slower"]),
        ({"strategy": "latency", "known": Known(healths={2: takes(2)})}, ["fastest", "not measured"]),
        ({"strategy": "latency"}, ["weight", "weight"]),
        ({"strategy": "latency", "chance": lambda: 0.01}, ["measuring", "measuring"]),
        ({"session": b"s", "known": Known({1: "open"})}, ["sticky", "circuit open"]),
        ({"session": b"s", "known": Known({1: "half-open"})}, ["sticky", "sticky"]),
        ({"known": Known({1: "open", 2: "open"})}, ["circuit open", "circuit open"]),
    ],
)
def test_the_reason_says_why_it_stands_there(options: dict[str, Any], reasons: list[str]) -> None:
    assert [choice.reason for choice in chosen(deployment(id=1), deployment(id=2), **options)] == reasons


def test_one_alone_needs_no_reason_even_if_its_circuit_is_open() -> None:
    assert [choice.reason for choice in chosen(deployment(), known=Known({1: "open"}))] == ["only"]
    assert [choice.reason for choice in chosen(deployment(id=1, order=1), deployment(id=2, order=2))] == ["order", "order"]


def test_a_model_to_fall_back_to_comes_before_what_probably_fails() -> None:
    own, other = Stage([deployment(id=1), deployment(id=2, order=2)]), Stage([deployment(id=3)])
    found = choose([own, other], known=Known({1: "open"}), cost=free, lots=Lots(None))
    assert [(choice.deployment.id, choice.reason) for choice in found] == [
        (2, "order"), (3, "fallback model"), (1, "circuit open"),
    ]  # fmt: skip
