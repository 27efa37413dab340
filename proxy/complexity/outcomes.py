"""Questions that a weak and a strong model both answered, as RouteLLM's evaluation wrote them down: a CSV, gzipped or not.

Columns: `task` (the subject), `prompt`, and `weak_correct` and `strong_correct` (`True` or `False`; may be missing where a file
is only to be scored).
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# The one task that is no subject of MMLU.
GRADE_SCHOOL_MATHS = "gsm8k"
_GZIP = b"\x1f\x8b"
_JUDGED = ("weak_correct", "strong_correct")


class BadOutcomes(ValueError):
    """The file is not one of outcomes; the message says where."""


class Question(NamedTuple):
    task: str
    prompt: str


class Outcome(NamedTuple):
    """Whether each model answered correctly."""

    weak: bool
    strong: bool

    @property
    def gain(self) -> int:
        """What the strong model adds: 1, 0, or -1 where only the weak one was right."""
        return self.strong - self.weak


class Table(NamedTuple):
    """`outcomes` is one per question, or empty where the file tells none."""

    questions: list[Question]
    outcomes: list[Outcome]


def sets(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Positions by name of what is judged apart: all, the subjects of MMLU, and GSM8K."""
    maths = [question.task == GRADE_SCHOOL_MATHS for question in questions]
    return {
        "all": list(range(len(maths))),
        "mmlu": [at for at, own in enumerate(maths) if not own],
        GRADE_SCHOOL_MATHS: [at for at, own in enumerate(maths) if own],
    }


def read_table(path: Path) -> Table:
    """Raises BadOutcomes, OSError."""
    try:
        reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
        columns = set(reader.fieldnames or ())
        missing = {"task", "prompt"} - columns
        if missing:
            raise BadOutcomes(f"{path}: lacks the column {', '.join(sorted(missing))}")
        rows = list(enumerate(reader, start=1))
    except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise BadOutcomes(f"{path}: {error}") from error
    judged = columns.issuperset(_JUDGED)
    return Table(
        questions=[Question(row["task"], row["prompt"] or "") for _, row in rows],
        outcomes=[Outcome(*(_flag(row[name], path, at) for name in _JUDGED)) for at, row in rows] if judged else [],
    )


def _text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if content.startswith(_GZIP) else content).decode()


def _flag(value: str | None, path: Path, row: int) -> bool:
    if value not in ("True", "False"):
        raise BadOutcomes(f"{path}, row {row}: {value!r} is neither True nor False")
    return value == "True"
