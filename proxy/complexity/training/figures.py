"""How well the model does on subjects it has not seen, beside the length of the prompt alone and chance: `figures.json`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from proxy.complexity.curve import WORTHWHILE, apgr, by_need, strong_share
from proxy.complexity.features import Features
from proxy.complexity.outcomes import GRADE_SCHOOL_MATHS, Outcome, Table, sets
from proxy.complexity.training.bootstrap import intervals
from proxy.complexity.training.fitting import LENGTH_WEIGHT, PENALTY
from proxy.complexity.training.folds import Fold, Group, by_field, by_kind, by_subject, folds, needs

OTHER_LENGTH_WEIGHTS = (0.0, 0.25, 1.0)
OTHER_PENALTIES = (30.0, 1000.0)


class Evaluation(NamedTuple):
    """`members`: positions of the questions that are judged apart."""

    table: Table
    features: Sequence[Features]
    members: dict[str, list[int]]

    def folds(self, group: Group, penalty: float = PENALTY) -> list[Fold]:
        return folds(self.table, self.features, group=group, penalty=penalty)

    def by_set(self, found: Sequence[Fold], *, length_weight: float = LENGTH_WEIGHT) -> dict[str, float]:
        """APGR of each set of questions."""
        scores = needs(found, self.features, length_weight=length_weight)
        return {name: round(apgr(*self.part(name, scores)), 4) for name in self.members}

    def part(self, name: str, scores: Sequence[float]) -> tuple[list[Outcome], list[float]]:
        return [self.table.outcomes[at] for at in self.members[name]], [scores[at] for at in self.members[name]]


def figures(table: Table, features: Sequence[Features]) -> dict[str, Any]:
    """Everything as JSON takes it. An interval is [value, low, high]. Takes minutes: more than a hundred models are fitted."""
    evaluation = Evaluation(table, features, sets(table.questions))
    found = evaluation.folds(by_subject)
    scores = needs(found, features)
    return {
        "questions": len(table.questions),
        "subject_left_out": _with_intervals(evaluation, scores),
        "saving": {name: _saving(*evaluation.part(name, scores)) for name in evaluation.members},
        "field_left_out": evaluation.by_set(evaluation.folds(by_field)),
        "gsm8k_left_out_whole": evaluation.by_set(evaluation.folds(by_kind))[GRADE_SCHOOL_MATHS],
        "other_length_weights": {str(weight): evaluation.by_set(found, length_weight=weight) for weight in OTHER_LENGTH_WEIGHTS},
        "other_penalties": {
            str(penalty): evaluation.by_set(evaluation.folds(by_subject, penalty)) for penalty in OTHER_PENALTIES
        },
        "subjects": _subjects(evaluation, scores),
    }


def _with_intervals(evaluation: Evaluation, learned: Sequence[float]) -> dict[str, Any]:
    questions = evaluation.table.questions
    scores: dict[str, Sequence[float]] = {
        "model": learned,
        "length": [float(len(question.prompt)) for question in questions],
        "random": _chance(len(questions)),
    }
    found: dict[str, Any] = {}
    for name, members in evaluation.members.items():
        outcomes = [evaluation.table.outcomes[at] for at in members]
        own = {label: [values[at] for at in members] for label, values in scores.items()}
        found[name] = _rounded(outcomes, own, None)
        if name == "mmlu":
            found["mmlu, subjects drawn"] = _rounded(outcomes, own, [questions[at].task for at in members])
    return found


def _rounded(
    outcomes: Sequence[Outcome], scores: Mapping[str, Sequence[float]], subjects: Sequence[str] | None
) -> dict[str, Any]:
    return {label: interval.rounded() for label, interval in intervals(outcomes, scores, subjects=subjects).items()}


def _chance(number: int) -> list[float]:
    source = random.Random(1)  # noqa: S311 - a draw that comes out the same again
    return [source.random() for _ in range(number)]


def _saving(outcomes: Sequence[Outcome], scores: Sequence[float]) -> dict[str, float]:
    """Strong calls that are not made at that share of the strong model's accuracy, and how many chance would save."""
    weak, strong = (sum(outcome[at] for outcome in outcomes) for at in range(2))
    return {
        "of_strong_accuracy": WORTHWHILE,
        "model": round(1 - strong_share(outcomes, scores), 3),
        "random": round(1 - max(0.0, (WORTHWHILE * strong - weak) / (strong - weak)), 3),
    }


def _subjects(evaluation: Evaluation, scores: Sequence[float]) -> dict[str, Any]:
    """Each subject's questions, either model's accuracy, and the mean share of all questions that are held to need it less."""
    ranks = {at: 1 - rank / len(scores) for rank, at in enumerate(by_need(scores))}
    found = {}
    for task in sorted({question.task for question in evaluation.table.questions}):
        members = [at for at, question in enumerate(evaluation.table.questions) if question.task == task]
        outcomes = [evaluation.table.outcomes[at] for at in members]
        found[task] = {
            "questions": len(members),
            "weak": round(sum(outcome.weak for outcome in outcomes) / len(members), 3),
            "strong": round(sum(outcome.strong for outcome in outcomes) / len(members), 3),
            "need": round(sum(ranks[at] for at in members) / len(members), 3),
        }
    return found
