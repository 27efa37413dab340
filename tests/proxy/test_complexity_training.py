"""Fitting and judging: on made-up questions whose answer is known, and what of the committed figures may be claimed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from proxy.complexity.features import Features
from proxy.complexity.outcomes import Outcome, Question, Table
from proxy.complexity.scoring import MODEL_FILE, dumps
from proxy.complexity.training.bootstrap import intervals
from proxy.complexity.training.figures import figures
from proxy.complexity.training.fitting import STEPS, fit
from proxy.complexity.training.folds import FIELDS, PARTS, by_field, by_kind, by_subject, folds, needs

FIGURES: dict[str, Any] = json.loads(MODEL_FILE.with_name("figures.json").read_text())
SUBJECTS = ("astronomy", "college_physics", "nutrition", "gsm8k")


def made_up(number: int = 1200, *, seed: int = 3) -> tuple[Table, list[Features]]:
    """`steps` makes the weak model wrong, `depth` both, `noise` and `constant` neither. Some texts lack `steps`."""
    source = random.Random(seed)  # noqa: S311 - the same draws every time
    features: list[Features] = []
    outcomes = []
    for _ in range(number):
        row = {"characters": source.gauss(5, 1), "depth": source.gauss(0, 1), "noise": source.gauss(0, 1), "constant": 4.0}
        if source.random() < 0.8:
            row["steps"] = source.gauss(10, 2)
        steps = (row.get("steps", 10) - 10) / 2
        weak = source.random() > 0.4 + 0.2 * steps + 0.1 * row["depth"]
        strong = source.random() > 0.2 + 0.1 * row["depth"]
        features.append(row)
        outcomes.append(Outcome(weak, strong))
    questions = [
        Question(SUBJECTS[at % len(SUBJECTS)], "x" * int(10 * row["characters"] + 30)) for at, row in enumerate(features)
    ]
    return Table(questions, outcomes), features


def test_a_fit_finds_what_makes_either_model_wrong() -> None:
    table, features = made_up(6000)
    model = fit(features, table.outcomes, penalty=1.0)
    # The weak model's risk is cut off at 0 and 1, so its line is a little flatter than 0.2.
    assert model.weights["steps"].weak == pytest.approx(0.19, abs=0.03)
    assert model.weights["steps"].strong == pytest.approx(0, abs=0.03)
    assert model.weights["depth"].weak == pytest.approx(0.1, abs=0.03)
    assert model.weights["depth"].strong == pytest.approx(0.1, abs=0.03)
    assert model.weights["noise"].weak == pytest.approx(0, abs=0.03)
    assert model.weak_risk == pytest.approx(0.4, abs=0.04)
    assert model.strong_risk == pytest.approx(0.2, abs=0.04)


def test_what_does_not_vary_weighs_nothing() -> None:
    table, features = made_up()
    assert "constant" not in fit(features, table.outcomes).weights


def test_a_feature_that_some_texts_lack_is_standardised_on_those_that_have_it() -> None:
    table, features = made_up()
    steps = fit(features, table.outcomes).weights["steps"]
    assert steps.mean == pytest.approx(10, abs=0.3)
    assert steps.spread == pytest.approx(2, abs=0.2)


def test_a_higher_penalty_believes_less() -> None:
    table, features = made_up()
    weights = [fit(features, table.outcomes, penalty=penalty).weights["steps"].weak for penalty in (1.0, 100.0, 1e4, 1e8)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == pytest.approx(0, abs=1e-3)


def test_the_solution_is_that_of_the_normal_equations() -> None:
    table, features = made_up(300)
    penalty = 7.0
    model = fit(features, table.outcomes, penalty=penalty)
    rows = [[weight.deviation(row.get(name, weight.mean)) for name, weight in model.weights.items()] for row in features]
    for side in ("weak", "strong"):
        weights = [getattr(weight, side) for weight in model.weights.values()]
        start = getattr(model, f"{side}_risk")
        wrong = [float(not getattr(outcome, side)) for outcome in table.outcomes]
        left = [y - start - sum(w * x for w, x in zip(weights, row, strict=True)) for y, row in zip(wrong, rows, strict=True)]
        assert sum(left) == pytest.approx(0, abs=1e-6)
        for at, weight in enumerate(weights):
            assert sum(value * row[at] for value, row in zip(left, rows, strict=True)) == pytest.approx(
                penalty * weight, abs=1e-6
            )


def test_the_questions_it_was_fitted_to_are_spread_evenly_over_the_scores() -> None:
    table, features = made_up()
    model = fit(features, table.outcomes)
    assert len(model.steps) == STEPS + 1
    shares = sorted(model.share_below(model.need(row)) for row in features)
    assert (shares[0], shares[-1]) == (0, 1)
    assert [shares[len(shares) * tenth // 10] for tenth in range(1, 10)] == pytest.approx(
        [tenth / 10 for tenth in range(1, 10)], abs=0.01
    )


def test_fitting_twice_gives_the_same_file() -> None:
    table, features = made_up()
    assert dumps(fit(features, table.outcomes)) == dumps(fit(features, table.outcomes))


@pytest.mark.parametrize(
    ("group", "number"),
    # GSM8K in parts, by subject; two of the three subjects share a field; one kind and the other.
    [(by_subject, 3 + PARTS), (by_field, 2 + PARTS), (by_kind, 2)],
)
def test_every_question_is_left_out_once(group: Any, number: int) -> None:
    table, features = made_up(200)
    found = folds(table, features, group=group)
    assert len(found) == number
    assert sorted(at for fold in found for at in fold.members) == list(range(200))


def test_a_model_is_judged_by_nothing_it_has_seen() -> None:
    table, features = made_up(200)
    before = folds(table, features, group=by_subject)
    astronomy = [at for at, question in enumerate(table.questions) if question.task == "astronomy"]
    turned = [
        Outcome(not outcome.weak, not outcome.strong) if at in astronomy else outcome for at, outcome in enumerate(table.outcomes)
    ]
    after = folds(table._replace(outcomes=turned), features, group=by_subject)
    same = [fold.members for fold, other in zip(before, after, strict=True) if fold.model == other.model]
    assert same == [astronomy]


def test_needs_stand_where_their_questions_do() -> None:
    table, features = made_up(60)
    found = folds(table, features, group=by_subject)
    for fold in found:
        for at in fold.members:
            assert needs(found, features)[at] == fold.model.need(features[at])
            assert needs(found, features, length_weight=0)[at] == fold.model._replace(length_weight=0).need(features[at])


def test_no_subject_belongs_to_two_fields() -> None:
    tasks = [task for field in FIELDS.values() for task in field]
    assert len(tasks) == len(set(tasks))


def test_an_interval_holds_its_figure_and_narrows_with_more_questions() -> None:
    widths = []
    for number in (200, 3200):
        table, features = made_up(number)
        steps = [row.get("steps", 10) for row in features]
        found = intervals(table.outcomes, {"steps": steps, "noise": [row["noise"] for row in features]}, rounds=200)
        assert list(found) == ["steps", "noise", "steps - noise"]
        assert all(interval.low <= interval.value <= interval.high for interval in found.values())
        assert found["steps - noise"].value == pytest.approx(found["steps"].value - found["noise"].value)
        widths.append(found["steps"].high - found["steps"].low)
    assert widths[1] < widths[0] / 2
    assert found["steps - noise"].low > 0


def test_an_interval_comes_out_the_same_again_and_of_whole_subjects_is_another() -> None:
    table, features = made_up(400)
    scores = {"steps": [row.get("steps", 10) for row in features]}
    subjects = [question.task for question in table.questions]
    first = intervals(table.outcomes, scores, rounds=50)
    assert intervals(table.outcomes, scores, rounds=50) == first
    assert intervals(table.outcomes, scores, rounds=50, subjects=subjects)["steps"].low != first["steps"].low


def test_the_figures_of_made_up_questions_say_what_was_made_up() -> None:
    found = figures(*made_up(400))
    assert found.keys() == FIGURES.keys()
    assert found["subject_left_out"]["all"]["model"][0] > found["subject_left_out"]["all"]["length"][0]
    assert found["saving"]["all"]["model"] > found["saving"]["all"]["random"]
    assert sum(subject["questions"] for subject in found["subjects"].values()) == 400
    assert json.loads(json.dumps(found)) == found


def test_the_committed_figures_are_clearly_better_than_length_and_chance() -> None:
    left_out = FIGURES["subject_left_out"]
    for name in ("all", "mmlu"):
        assert left_out[name]["model - length"][1] > 0.02
        assert left_out[name]["model"][1] > left_out[name]["random"][2]
    assert left_out["gsm8k"]["model - length"][1] > 0
    assert left_out["mmlu, subjects drawn"]["model"][0] == left_out["mmlu"]["model"][0]
