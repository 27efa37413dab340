"""In which order deployments are tried, and why each stands where it does. Pure but for the lot that is drawn.

Every deployment is in the result exactly once, so a call is refused only after everything that might work was tried:
1. the models in their order: the one asked for, then those it falls back to;
2. within a model by declared `order`;
3. among equals by the model's strategy (weight, price, latency);
4. among those the strategy holds for equal by lot, in proportion to weight. A session draws the same lot every time, so it
   stays where the provider has its prompt cached; nobody has to remember where (weighted rendezvous hashing, Efraimidis
   and Spirakis' keys);
5. last of all those whose circuit is open.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Literal, NamedTuple, Protocol

from proxy.deployments import Deployment
from proxy.health.state import Circuit, Health

Reason = Literal[
    "only", "order", "weight", "sticky", "cheapest", "dearer", "fastest", "slower", "measuring", "not measured",
    "fallback model", "circuit open",
]  # fmt: skip

# Who is at most so much slower than the fastest is as fast: else all workers would run after every tremble of an average.
AS_FAST = 1.2
# One choice in so many is made by weight, or what is slow once would never be measured again.
MEASURE_ONE_IN = 20


class Stage(NamedTuple):
    """The deployments of one model that may be used, and its strategy among equals (proxy.models.Model.Strategy)."""

    deployments: Sequence[Deployment]
    strategy: str = "order"


class Choice(NamedTuple):
    deployment: Deployment
    reason: Reason


class Known(Protocol):
    """What is known of deployments at the moment (proxy.health.board.Board)."""

    def health(self, deployment: Deployment) -> Health: ...

    def circuit(self, deployment: Deployment) -> Circuit: ...


class Lots:
    """Draws for one call: the higher the lot, the sooner it is tried. `session`: whoever has the same draws the same."""

    def __init__(self, session: bytes | None, chance: Callable[[], float] = random.random) -> None:
        self._session = session
        self.chance = chance
        self.reason: Reason = "weight" if session is None else "sticky"

    def __call__(self, deployment: Deployment) -> float:
        if self._session is None:
            drawn = 1.0 - self.chance()
        else:
            digest = blake2b(self._session, digest_size=8, key=deployment.health_name.encode()[:64]).digest()
            drawn = (int.from_bytes(digest) + 0.5) / 2**64
        return math.log(drawn) / max(1, deployment.weight)


def choose(stages: Sequence[Stage], *, known: Known, cost: Callable[[Deployment], int], lots: Lots) -> tuple[Choice, ...]:
    """`cost`: of this call at a deployment, in any unit that compares."""
    if len(stages) == 1 and len(stages[0].deployments) == 1:
        return (Choice(stages[0].deployments[0], "only"),)
    ready: list[Choice] = []
    last: list[Choice] = []
    for number, stage in enumerate(stages):
        for deployment, reason in _of_model(stage, known, cost, lots):
            if known.circuit(deployment) == "open":
                last.append(Choice(deployment, "circuit open"))
            else:
                ready.append(Choice(deployment, "fallback model" if number else reason))
    return (*ready, *last)


def _of_model(stage: Stage, known: Known, cost: Callable[[Deployment], int], lots: Lots) -> list[Choice]:
    by_order = sorted(stage.deployments, key=lambda deployment: deployment.order)
    found: list[Choice] = []
    for _, group in groupby(by_order, key=lambda deployment: deployment.order):
        equals = list(group)
        if len(equals) == 1:
            found.append(Choice(equals[0], "order"))
        elif stage.strategy == "price":
            found += _by_price(equals, cost, lots)
        elif stage.strategy == "latency":
            found += _by_latency(equals, known, lots)
        else:
            found += _by_lot(equals, lots, lots.reason)
    return found


def _by_lot(equals: Sequence[Deployment], lots: Lots, reason: Reason) -> list[Choice]:
    return [Choice(deployment, reason) for deployment in sorted(equals, key=lots, reverse=True)]


def _by_price(equals: Sequence[Deployment], cost: Callable[[Deployment], int], lots: Lots) -> list[Choice]:
    costs = {deployment.health_name: cost(deployment) for deployment in equals}
    least = min(costs.values())
    cheapest = [deployment for deployment in equals if costs[deployment.health_name] == least]
    dearer = [deployment for deployment in equals if costs[deployment.health_name] > least]
    dearer.sort(key=lambda deployment: (costs[deployment.health_name], -lots(deployment)))
    return _by_lot(cheapest, lots, "cheapest") + [Choice(deployment, "dearer") for deployment in dearer]


def _by_latency(equals: Sequence[Deployment], known: Known, lots: Lots) -> list[Choice]:
    if lots.chance() * MEASURE_ONE_IN < 1:
        return _by_lot(equals, lots, "measuring")
    times = {deployment.health_name: known.health(deployment).answer_ms for deployment in equals}
    bound = AS_FAST * min((time for time in times.values() if time is not None), default=0.0)
    fast, slow, unknown = [], [], []
    for deployment in equals:
        time = times[deployment.health_name]
        if time is None:
            unknown.append(deployment)
        elif time <= bound:
            fast.append(deployment)
        else:
            slow.append((time, deployment))
    slow.sort(key=lambda entry: entry[0])
    by_time = _by_lot(fast, lots, "fastest") + [Choice(deployment, "slower") for _, deployment in slow]
    return by_time + _by_lot(unknown, lots, "not measured" if by_time else lots.reason)
