"""How sure a figure is: the same figure on questions drawn again, with replacement."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from operator import mul
from typing import NamedTuple

from proxy.complexity.curve import by_need, gap_recovered
from proxy.complexity.outcomes import Outcome

ROUNDS = 1000


class Interval(NamedTuple):
    """A figure, and what 95 of 100 draws lie between."""

    value: float
    low: float
    high: float

    def rounded(self) -> list[float]:
        return [round(number, 4) for number in self]


def intervals(
    outcomes: Sequence[Outcome],
    scores: Mapping[str, Sequence[float]],
    *,
    subjects: Sequence[str] | None = None,
    rounds: int = ROUNDS,
) -> dict[str, Interval]:
    """APGR of each way to score, and under `a - b` what the first gains over each other one, on the same draws.

    Questions are drawn, or, where `subjects` tells each one's, whole subjects: what another choice of them would have shown.
    """
    gains = [outcome.gain for outcome in outcomes]
    orders = {name: by_need(values) for name, values in scores.items()}
    ordered = {name: [gains[at] for at in order] for name, order in orders.items()}
    whole = _compared({name: gap_recovered(values) for name, values in ordered.items()})
    draws: dict[str, list[float]] = defaultdict(list)
    source = random.Random(0)  # noqa: S311 - a draw that comes out the same again
    for _ in range(rounds):
        times = _drawn(source, gains, subjects)
        drawn = {
            name: gap_recovered(list(chain.from_iterable(map(repeat, ordered[name], [times[at] for at in order]))))
            for name, order in orders.items()
        }
        for name, value in _compared(drawn).items():
            draws[name].append(value)
    return {name: _interval(value, draws[name]) for name, value in whole.items()}


def _drawn(source: random.Random, gains: Sequence[int], subjects: Sequence[str] | None) -> Sequence[int]:
    """How often each question is drawn. A draw in which the two models do equally well says nothing, and is made again."""
    units = sorted(set(subjects)) if subjects else range(len(gains))
    places = subjects or units
    while True:
        drawn = Counter[object](source.choices(units, k=len(units)))
        times = [drawn[place] for place in places]
        if sum(map(mul, gains, times)):
            return times


def _compared(values: dict[str, float]) -> dict[str, float]:
    (first, own), *others = values.items()
    return values | {f"{first} - {name}": own - value for name, value in others}


def _interval(value: float, draws: Sequence[float]) -> Interval:
    ordered = sorted(draws)
    return Interval(value, ordered[round(0.025 * (len(ordered) - 1))], ordered[round(0.975 * (len(ordered) - 1))])
