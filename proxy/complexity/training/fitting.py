"""The complexity model from outcomes: ridge regression on standardised features, in plain Python (half a minute would be long).

Straight lines, because they carry over: boosted trees on the same features learn the subjects that they see. One weight is set by
hand and not learned: longer questions need the strong model more. Left to itself the fit does not believe it, as most of what it
sees of long questions is one subject; on whole subjects left out the weight helps with any value from 0.25 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from operator import mul
from statistics import fmean, pstdev

from proxy.complexity.features import Features
from proxy.complexity.outcomes import Outcome
from proxy.complexity.scoring import Model, Scale, Weight

# The ridge's penalty, in questions: what this many of them would have to say against a weight of zero.
PENALTY = 100.0
LENGTH_WEIGHT = 0.5
# Equal steps of the calibration: half a percent each.
STEPS = 200

Column = list[float]


def fit(
    features: Sequence[Features], outcomes: Sequence[Outcome], *, penalty: float = PENALTY, length: float = LENGTH_WEIGHT
) -> Model:
    """Of one set of features and one outcome per question, in the same order."""
    plain = _standardised(features)
    columns = [[weight.deviation(row.get(name, weight.mean)) for row in features] for name, weight in plain.items()]
    targets = [[float(not outcome.weak) for outcome in outcomes], [float(not outcome.strong) for outcome in outcomes]]
    (weak, weak_risk), (strong, strong_risk) = _ridge(columns, targets, penalty)
    weights = {name: weight._replace(weak=weak[at], strong=strong[at]) for at, (name, weight) in enumerate(plain.items())}
    model = Model(weights, weak_risk, strong_risk, Scale(0.0, 1.0), length)
    gains = [model.expected_gain(row) for row in features]
    model = model._replace(gain=Scale(fmean(gains), pstdev(gains)))
    return model._replace(steps=_steps([model.need(row) for row in features]))


def _standardised(features: Sequence[Features]) -> dict[str, Weight]:
    """Features that vary, with their usual value and spread where a text has them; what they weigh is not known yet."""
    found: dict[str, Column] = {}
    for row in features:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    spreads = {name: pstdev(values) for name, values in found.items()}
    return {name: Weight(fmean(values), spreads[name], 0.0, 0.0) for name, values in found.items() if spreads[name] > 1e-9}


def _ridge(columns: Sequence[Column], targets: Sequence[Column], penalty: float) -> list[tuple[Column, float]]:
    """For each target its weights and its value where every column is 0."""
    means = [fmean(column) for column in columns]
    centred = [[value - mean for value in column] for column, mean in zip(columns, means, strict=True)]
    gram = [[_dot(a, b) for b in centred[: at + 1]] for at, a in enumerate(centred)]
    for at, row in enumerate(gram):
        row[at] += penalty
    lower = _cholesky(gram)
    found = []
    for target in targets:
        weights = _solve(lower, [_dot(column, target) for column in centred])
        found.append((weights, fmean(target) - _dot(weights, means)))
    return found


def _dot(a: Column, b: Column) -> float:
    total: float = sum(map(mul, a, b))
    return total


def _cholesky(gram: Sequence[Column]) -> list[Column]:
    """The lower triangle L with L Lᵀ = gram, of gram's lower triangle; gram must be positive definite."""
    lower: list[Column] = []
    for at, row in enumerate(gram):
        made: Column = []
        for column in range(at):
            above = lower[column]
            made.append((row[column] - _dot(made, above[:column])) / above[column])
        made.append(sqrt(row[at] - _dot(made, made)))
        lower.append(made)
    return lower


def _solve(lower: Sequence[Column], right: Column) -> Column:
    """x with L Lᵀ x = right."""
    forward: Column = []
    for row, value in zip(lower, right, strict=True):
        forward.append((value - _dot(row[: len(forward)], forward)) / row[len(forward)])
    found = [0.0] * len(forward)
    for at in range(len(forward) - 1, -1, -1):
        below = sum(lower[other][at] * found[other] for other in range(at + 1, len(forward)))
        found[at] = (forward[at] - below) / lower[at][at]
    return found


def _steps(needs: Sequence[float]) -> tuple[float, ...]:
    ordered = sorted(needs)
    last = len(ordered) - 1
    return tuple(ordered[round(step * last / STEPS)] for step in range(STEPS + 1))
