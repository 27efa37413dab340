"""What each question is scored by when it is judged: a model that has seen no question of its subject."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from proxy.complexity.features import Features
from proxy.complexity.outcomes import GRADE_SCHOOL_MATHS, Question, Table
from proxy.complexity.scoring import Model
from proxy.complexity.training.fitting import LENGTH_WEIGHT, PENALTY, fit

# GSM8K is no subject: other questions of it are what a model has seen when it is judged, so it is left out in parts.
PARTS = 5
# Subjects that are so close that leaving one out leaves its twin in; the others stand alone.
FIELDS = {
    "mathematics": ("abstract_algebra", "college_mathematics", "formal_logic"),
    "physical sciences": (
        "astronomy", "college_chemistry", "college_physics", "conceptual_physics", "electrical_engineering",
        "high_school_computer_science",
    ),
    "medicine and biology": ("clinical_knowledge", "high_school_biology", "human_aging", "medical_genetics", "nutrition"),
    "economics": ("high_school_macroeconomics", "high_school_microeconomics", "management"),
    "psychology": ("high_school_psychology", "professional_psychology"),
    "law": ("international_law", "professional_law"),
    "history and society": (
        "high_school_geography", "high_school_us_history", "prehistory", "security_studies", "us_foreign_policy",
        "world_religions",
    ),
    "philosophy": ("logical_fallacies", "moral_disputes"),
}  # fmt: skip
_FIELD_OF = {task: field for field, tasks in FIELDS.items() for task in tasks}

Group = Callable[[int, Question], Hashable]


class Fold(NamedTuple):
    """A model, and the questions of which it has seen none, by position."""

    members: list[int]
    model: Model


def by_subject(at: int, question: Question) -> Hashable:
    return (question.task, at % PARTS) if question.task == GRADE_SCHOOL_MATHS else question.task


def by_field(at: int, question: Question) -> Hashable:
    return _FIELD_OF.get(question.task, by_subject(at, question))


def by_kind(at: int, question: Question) -> Hashable:
    """How a model does on a kind of question of which it has seen none."""
    return question.task == GRADE_SCHOOL_MATHS


def folds(table: Table, features: Sequence[Features], *, group: Group, penalty: float = PENALTY) -> list[Fold]:
    """One per group of questions, its model fitted to all the others."""
    groups = [group(at, question) for at, question in enumerate(table.questions)]
    found = []
    for left in dict.fromkeys(groups):
        kept = [at for at, other in enumerate(groups) if other != left]
        model = fit([features[at] for at in kept], [table.outcomes[at] for at in kept], penalty=penalty)
        found.append(Fold([at for at, other in enumerate(groups) if other == left], model))
    return found


def needs(found: Sequence[Fold], features: Sequence[Features], *, length_weight: float = LENGTH_WEIGHT) -> list[float]:
    """For each question its need, told by the model that has not seen its like."""
    by_position = {
        at: fold.model._replace(length_weight=length_weight).need(features[at]) for fold in found for at in fold.members
    }
    return [by_position[at] for at in range(len(features))]
