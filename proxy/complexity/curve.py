"""What a score is worth: the mixes of two models that it makes, from none of the calls to the strong one to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from proxy.complexity.outcomes import Outcome

# Of the strong model's accuracy: what a mix must reach for its saving to count.
WORTHWHILE = 0.95


def apgr(outcomes: Sequence[Outcome], scores: Sequence[float]) -> float:
    """Average performance gap recovered (RouteLLM): 0.5 by chance.

    The highest scores go to the strong model first; the area between the accuracy of the mix and that of the weak model alone,
    over all shares of strong calls, is divided by the gap between the two models. Raises ZeroDivisionError where there is none.
    """
    gains = [outcomes[at].gain for at in by_need(scores)]
    return gap_recovered(gains)


def gap_recovered(gains: Sequence[int]) -> float:
    """The same of gains in the order in which calls go to the strong model."""
    curve = list(accumulate(gains, initial=0))
    area = sum(curve) - (curve[0] + curve[-1]) / 2
    return area / len(gains) / curve[-1]


def strong_share(outcomes: Sequence[Outcome], scores: Sequence[float], *, of_strong: float = WORTHWHILE) -> float:
    """The smallest share, 0 to 1, of calls to the strong model with which the mix is right `of_strong` as often as it alone."""
    wanted = of_strong * sum(outcome.strong for outcome in outcomes)
    return next(at for at, right in enumerate(_right(outcomes, scores)) if right >= wanted) / len(outcomes)


def by_need(scores: Sequence[float]) -> list[int]:
    """Positions, the highest score first; equal ones as they stand."""
    return sorted(range(len(scores)), key=lambda at: -scores[at])


def _right(outcomes: Sequence[Outcome], scores: Sequence[float]) -> Iterator[int]:
    """Questions that are answered correctly with 0, 1, 2 … calls to the strong model."""
    gains = (outcomes[at].gain for at in by_need(scores))
    return accumulate(gains, initial=sum(outcome.weak for outcome in outcomes))
