"""How much a request needs the strong model, of its text alone: no network, no database, at most a millisecond.

Two straight lines over the same features (`features.py`) estimate how likely the weak model and the strong one are wrong. What is
to be gained is that the weak one is wrong and the strong one is not: a question that is beyond both is not worth the money. The
length of the text is added with a weight of its own (`training/fitting.py` says why). `model.json` holds the numbers;
`manage.py train_routing` writes it. Nothing that was scored is kept.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from proxy.complexity.features import Features, extract
from proxy.complexity.reading import read

MODEL_FILE = Path(__file__).with_name("model.json")
# No text is further from the usual one than this, in standard deviations: past what was trained on, a line proves nothing.
FURTHEST = 2.5
# A question is never certain to be answered wrongly, nor rightly.
LEAST_RISK = 0.02


class Weight(NamedTuple):
    """One feature: its usual value and spread, and what each standard deviation adds to the risk of either model."""

    mean: float
    spread: float
    weak: float
    strong: float

    def deviation(self, value: float) -> float:
        return max(-FURTHEST, min(FURTHEST, (value - self.mean) / self.spread))


class Scale(NamedTuple):
    mean: float
    spread: float

    def deviation(self, value: float) -> float:
        return (value - self.mean) / self.spread


class Model(NamedTuple):
    """`weak_risk`, `strong_risk`: of the usual question. `steps`: needs of ordinary questions in equal steps, ascending."""

    weights: dict[str, Weight]
    weak_risk: float
    strong_risk: float
    gain: Scale
    length_weight: float
    steps: Sequence[float] = ()

    def expected_gain(self, features: Features) -> float:
        """The probability that the weak model is wrong and the strong one right. A feature that the text lacks is a usual one."""
        weak, strong = self.weak_risk, self.strong_risk
        for name, value in features.items():
            weight = self.weights.get(name)
            if weight is not None:
                deviation = weight.deviation(value)
                weak += weight.weak * deviation
                strong += weight.strong * deviation
        return _risk(weak) * (1 - _risk(strong))

    def need(self, features: Features) -> float:
        """Comparable with other needs of this model only; any finite number."""
        length = self.weights["characters"].deviation(features["characters"])
        return self.gain.deviation(self.expected_gain(features)) + self.length_weight * length

    def share_below(self, need: float) -> float:
        """The share of ordinary questions, 0 to 1, that need the strong model less."""
        at = bisect_right(self.steps, need)
        if at in (0, len(self.steps)):
            return float(at > 0)
        below, above = self.steps[at - 1], self.steps[at]
        return (at - 1 + (need - below) / (above - below)) / (len(self.steps) - 1)


def score(text: str) -> float:
    """The share of ordinary questions, 0 to 1, that need the strong model less than this text does."""
    model = shipped()
    return model.share_below(model.need(extract(read(text))))


@cache
def shipped() -> Model:
    """The model that comes with the code; read once, when it is first asked."""
    return loads(MODEL_FILE.read_text())


def loads(text: str) -> Model:
    """Raises ValueError where it is no model, KeyError where a part is missing."""
    stored = json.loads(text)
    model = Model(
        weights={name: Weight(*weight) for name, weight in stored["weights"].items()},
        weak_risk=stored["weak_risk"],
        strong_risk=stored["strong_risk"],
        gain=Scale(*stored["gain"]),
        length_weight=stored["length_weight"],
        steps=tuple(stored["steps"]),
    )
    spreads = [model.gain.spread, *(weight.spread for weight in model.weights.values())]
    if not all(map(isfinite, _numbers(model))) or min(spreads) <= 0:
        raise ValueError("All numbers of a complexity model are finite, and its spreads are above zero.")
    if list(model.steps) != sorted(model.steps) or "characters" not in model.weights:
        raise ValueError("The steps of a complexity model ascend, and it weighs characters.")
    return model


def dumps(model: Model) -> str:
    """JSON with five significant digits and one weight a line: small, and a change of it can be read."""
    weights = {name: json.dumps(_rounded(weight)) for name, weight in model.weights.items()}
    parts = [
        '"weights": {\n' + ",\n".join(f'  "{name}": {weight}' for name, weight in weights.items()) + "\n}",
        f'"weak_risk": {_rounded([model.weak_risk])[0]}',
        f'"strong_risk": {_rounded([model.strong_risk])[0]}',
        f'"gain": {json.dumps(_rounded(model.gain))}',
        f'"length_weight": {model.length_weight}',
        f'"steps": {json.dumps(_rounded(model.steps))}',
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _risk(value: float) -> float:
    return max(LEAST_RISK, min(1 - LEAST_RISK, value))


def _rounded(numbers: Iterable[float]) -> list[float]:
    return [float(f"{number:.5g}") for number in numbers]


def _numbers(model: Model) -> list[float]:
    own = [model.weak_risk, model.strong_risk, model.length_weight, *model.gain, *model.steps]
    return own + [number for weight in model.weights.values() for number in weight]
