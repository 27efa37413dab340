"""Who calls what, when and how: the shape of the demo's history. Pure declarations.

Sizes of prompts and answers come from the shipped traces; everything else here is made up.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from gateway_project.demo.trace import CODE, CONVERSATION


class Rhythm(NamedTuple):
    """Weight of each local hour of the day, and of a day of the weekend (a working day weighs 1)."""

    hours: tuple[int, ...]
    weekend: float


class Workload(NamedTuple):
    """What one key is used for.

    `share` of all calls; `models` by weight; `context_scale`: how many recorded prompts make one of this workload's
    (documents, diffs, passages found); `cached` share of the calls whose prompt begins like an earlier one;
    `preset` by which the preset's model is called.
    """

    key: str
    share: float
    rhythm: Rhythm
    trace: Path
    models: dict[str, int]
    context_scale: int = 1
    cached: float = 0.0
    streamed: float = 0.0
    rate_limited: float = 0.0
    preset: str = ""

    def weight(self, day: date) -> float:
        return self.share * (self.rhythm.weekend if day.weekday() >= 5 else 1.0)


class Speed(NamedTuple):
    first_token_ms: int
    tokens_per_second: int


class Outage(NamedTuple):
    """Hours of one day in which most calls to a model fail, counted in days before the end of the history."""

    days_before: int
    hours: range
    model: str
    share: float


OFFICE = Rhythm((0, 0, 0, 0, 0, 0, 1, 3, 8, 11, 12, 11, 7, 10, 12, 11, 9, 5, 2, 1, 1, 0, 0, 0), 0.08)
PATIENTS = Rhythm((2, 1, 1, 1, 1, 2, 4, 7, 8, 7, 7, 7, 7, 7, 7, 7, 8, 9, 11, 12, 11, 9, 6, 3), 0.8)
PHONE_LINES = Rhythm((0, 0, 0, 0, 0, 0, 0, 4, 11, 12, 11, 9, 6, 8, 9, 9, 8, 5, 2, 0, 0, 0, 0, 0), 0.35)
BUILDS = Rhythm((1, 1, 1, 1, 1, 1, 2, 4, 8, 11, 12, 10, 8, 10, 12, 12, 11, 8, 5, 3, 2, 2, 1, 1), 0.15)
NIGHTLY = Rhythm((6, 14, 16, 14, 8, 3, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2), 0.5)

WORKLOADS = (
    Workload(
        "Symptom Checker production",
        0.24,
        PATIENTS,
        CONVERSATION,
        {"gpt-5-mini": 6, "claude-haiku-4-5": 3, "claude-sonnet-5": 1},
        cached=0.6,
        streamed=0.95,
        rate_limited=0.012,
    ),
    Workload("Symptom Checker staging", 0.02, OFFICE, CONVERSATION, {"gpt-5-mini": 2, "claude-haiku-4-5": 3}, streamed=0.9),
    Workload("Visit Summaries production", 0.1, PHONE_LINES, CONVERSATION, {"claude-sonnet-5": 4, "gpt-5-mini": 1}, 3),
    Workload(
        "Contact Centre production", 0.17, PHONE_LINES, CONVERSATION, {"claude-haiku-4-5": 5, "gemini-3.5-flash": 4}, cached=0.5
    ),
    Workload("Guideline Search production", 0.08, OFFICE, CONVERSATION, {"claude-sonnet-5": 3, "gpt-5.5": 1}, 4, streamed=0.9),
    Workload("Code Review pipeline", 0.13, BUILDS, CODE, {"claude-opus-5": 3, "claude-sonnet-5": 2}, 3, cached=0.4),
    Workload("SQL Assistant production", 0.06, OFFICE, CONVERSATION, {"gpt-5.5": 1, "gpt-5-mini": 3}, streamed=0.5),
    Workload("Claims Extraction production", 0.1, NIGHTLY, CONVERSATION, {"gemini-3.5-flash": 4, "gpt-5-mini": 1}, 2),
    Workload(
        "Lena's laptop",
        0.01,
        OFFICE,
        CONVERSATION,
        {"claude-sonnet-5": 2, "sandbox-fast": 1},
        streamed=1.0,
        preset="plain-words",
    ),
    Workload("Diego's notebook", 0.012, OFFICE, CONVERSATION, {"gpt-5.5": 2, "gpt-5-mini": 1}, streamed=0.7),
    Workload("Emma's research", 0.015, OFFICE, CONVERSATION, {"claude-opus-5": 1, "gpt-5.5": 1}, 2, streamed=0.8),
    Workload(
        "Hannah's editor",
        0.043,
        OFFICE,
        CODE,
        {"claude-sonnet-5": 3, "gpt-5-mini": 2},
        cached=0.7,
        streamed=1.0,
        preset="code-review",
    ),
    Workload("Yuki's notebook", 0.015, OFFICE, CONVERSATION, {"gpt-5-mini": 3, "sandbox-standard": 1}),
    Workload("Priya's experiments", 0.005, OFFICE, CONVERSATION, {"sandbox-reasoning": 1, "claude-opus-5": 1}, streamed=0.5),
)

SPEEDS = {
    "gpt-5-mini": Speed(380, 140),
    "gpt-5.5": Speed(900, 70),
    "claude-haiku-4-5": Speed(320, 150),
    "claude-sonnet-5": Speed(700, 75),
    "claude-opus-5": Speed(1_300, 45),
    "gemini-3.5-flash": Speed(350, 170),
    "sandbox-fast": Speed(150, 160),
    "sandbox-standard": Speed(250, 90),
    "sandbox-reasoning": Speed(800, 110),
}
REASONING = frozenset({"sandbox-reasoning"})
OUTAGE = Outage(9, range(14, 16), "claude-sonnet-5", 0.6)


def calls_by_day(days: list[date], *, calls: int) -> dict[date, int]:
    """About `calls` in all: more on working days, and twice as many at the end of the period as at its beginning."""
    weights = {
        day: (1 + index / len(days)) * sum(workload.weight(day) for workload in WORKLOADS) for index, day in enumerate(days)
    }
    total = sum(weights.values())
    return {day: max(1, round(calls * weight / total)) for day, weight in weights.items()}


def period(until: date, *, days: int) -> list[date]:
    """The days before `until`, oldest first, and `until` itself."""
    return [until - timedelta(days=distance) for distance in range(days, -1, -1)]
