"""The score of a text, 0 to 1: the shipped model, and what a model file may say."""

from __future__ import annotations

import json
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.complexity.features import extract
from proxy.complexity.reading import read
from proxy.complexity.scoring import FURTHEST, LEAST_RISK, MODEL_FILE, Model, Scale, Weight, dumps, loads, score, shipped

ROOT = Path(__file__).resolve().parents[2]
EASY = "Which planet is known as the red planet?\nA. Venus\nB. Mars\nC. Jupiter\nD. Saturn\nAnswer:"
HARD = (
    "A shop sells pens in boxes of 12. If each box costs 9 dollars and the price of every third box is lowered by half, how much "
    "more would Tom pay for 7 boxes than for 60 pens at 80 cents each, given that he has already paid 5 dollars?"
)
MODEL = Model(
    weights={"characters": Weight(3.0, 1.0, 0.1, 0.0), "numbers": Weight(1.0, 2.0, 0.2, 0.1)},
    weak_risk=0.4,
    strong_risk=0.2,
    gain=Scale(0.3, 0.1),
    length_weight=0.5,
    steps=(-1.0, 0.0, 0.0, 2.0, 3.0),
)


def test_a_question_of_many_steps_needs_the_strong_model_more_than_one_of_plain_knowledge() -> None:
    assert 0 <= score(EASY) < 0.1
    assert 0.5 < score(HARD) <= 1


@pytest.mark.parametrize("text", ["", " ", "hi", "Write a haiku about autumn.", "What is the capital of France?"])
def test_small_talk_is_for_the_weak_model(text: str) -> None:
    assert score(text) < 0.15


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=6000))
def test_every_text_has_a_score(text: str) -> None:
    assert 0 <= score(text) <= 1
    assert score(text) == score(text)


def test_a_long_text_is_scored_by_its_ends_and_its_length() -> None:
    ends = "x " * 2000, " y" * 2000
    assert score(ends[0] + "one 1 " * 50_000 + ends[1]) == score(ends[0] + "two 22" * 50_000 + ends[1])


def test_the_gain_is_that_only_the_weak_model_is_wrong() -> None:
    assert MODEL.expected_gain({"characters": 3.0, "numbers": 1.0}) == pytest.approx(0.4 * (1 - 0.2))
    assert MODEL.expected_gain({"characters": 4.0, "numbers": 3.0}) == pytest.approx(0.7 * (1 - 0.3))


def test_what_a_text_lacks_and_what_a_model_does_not_know_changes_nothing() -> None:
    assert MODEL.expected_gain({"characters": 3.0}) == MODEL.expected_gain({"characters": 3.0, "numbers": 1.0, "new": 9.0})


def test_nothing_counts_for_more_than_the_furthest_deviation() -> None:
    weight = MODEL.weights["numbers"]
    assert weight.deviation(1e9) == FURTHEST
    assert weight.deviation(-1e9) == -FURTHEST
    assert weight.deviation(2.0) == 0.5


def test_no_risk_is_certain() -> None:
    sure = MODEL._replace(weak_risk=5.0, strong_risk=-5.0)
    assert sure.expected_gain({}) == pytest.approx((1 - LEAST_RISK) ** 2)


def test_length_adds_to_the_need_with_a_weight_of_its_own() -> None:
    level = MODEL._replace(weights=MODEL.weights | {"characters": Weight(3.0, 1.0, 0.0, 0.0)})
    assert level.need({"characters": 5.0}) - level.need({"characters": 3.0}) == pytest.approx(2 * 0.5)


@pytest.mark.parametrize(
    ("need", "share"),
    [(-5.0, 0.0), (-1.0, 0.0), (-0.5, 0.125), (0.0, 0.5), (1.0, 0.625), (2.0, 0.75), (2.5, 0.875), (3.0, 1.0), (99.0, 1.0)],
)
def test_the_score_is_the_share_of_ordinary_questions_that_need_it_less(need: float, share: float) -> None:
    assert MODEL.share_below(need) == share


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_more_need_is_never_a_lower_score(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert shipped().share_below(low) <= shipped().share_below(high)


def test_a_model_is_the_same_when_read_back() -> None:
    assert loads(dumps(MODEL)) == MODEL
    assert dumps(shipped()) == MODEL_FILE.read_text()


def test_the_shipped_model_weighs_every_feature_there_is() -> None:
    known = extract(read(EASY)).keys() | extract(read(HARD)).keys()
    assert shipped().weights.keys() == known


def test_the_shipped_model_is_small_and_read_once() -> None:
    assert MODEL_FILE.stat().st_size < 20_000
    assert shipped() is shipped()


def changed(**parts: Any) -> str:
    return json.dumps(json.loads(dumps(MODEL)) | parts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        changed(steps=[1.0, 0.0]),
        changed(steps=[0.0, nan]),
        changed(gain=[inf, 1.0]),
        changed(weak_risk=nan),
        changed(weights={"characters": [0.0, inf, 0.0, 0.0]}),
        changed(weights={"characters": [0.0, 0.0, 0.1, 0.1]}),
        changed(weights={}),
    ],
)
def test_what_is_no_model_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own is one too
        loads(text)


def test_a_model_with_a_part_missing_is_not_read() -> None:
    with pytest.raises(KeyError, match="steps"):
        loads(json.dumps({name: value for name, value in json.loads(dumps(MODEL)).items() if name != "steps"}))


def test_scoring_loads_neither_framework_nor_network_nor_what_trains_it() -> None:
    program = "import sys, proxy.complexity.scoring as s; s.score('hi'); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    unwanted = ("django", "httpx", "aiohttp", "socket", "numpy", "proxy.complexity.training", "proxy.complexity.outcomes")
    assert [name for name in loaded if name.startswith(unwanted)] == []
