"""The result of a simulation in plain terms: names, moments and sums in place of letters, seconds and pairs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from proxy.models import Simulation
from proxy.simulating.result import Figures, Result

LEVELS = {"k": "key", "a": "application", "m": "member", "g": "group", "o": "organisation"}


def described(simulation: Simulation) -> dict[str, Any]:
    """Of one that is done."""
    result = msgspec.convert(simulation.result, Result)
    return {
        "passed": _sum(result["passed"]),
        "refused": _sum(result["refused"]),
        "by_limit": result["limits"],
        "subjects": [_line(one, result) for one in result["subjects"]],
        "subject_count": result["subject_count"],
        "subject_line_count": result.get("subject_line_count", result["subject_count"]),
        "days": [
            {"starts_at": _second(day["starts"]), "passed": _sum(day["passed"]), "refused": _sum(day["refused"])}
            for day in result["days"]
        ],
        "firsts": [{**_line(one, result), "window_starts_at": _second(one["window"])} for one in result["firsts"]],
        "first_count": result["first_count"],
        "sample": [{**_line(one, result), "calls": 1} for one in result["sample"]],
    }


def _line(one: Any, result: Result) -> dict[str, Any]:
    subject: str = one["subject"]
    number = int(subject[1:]) if subject[1:].isdigit() else None
    named = {"kind": LEVELS[subject[0]], "id": number, "name": result["names"].get(subject, subject)}
    return {**one, **named, "at": datetime.fromtimestamp(one["at"] / 1000, tz=UTC)}


def _sum(figures: Figures) -> dict[str, int]:
    calls, nano_usd = figures
    return {"calls": calls, "nano_usd": nano_usd}


def _second(seconds: int) -> datetime | None:
    """None where there is none: a count over the whole period."""
    return datetime.fromtimestamp(seconds, tz=UTC) if seconds else None
