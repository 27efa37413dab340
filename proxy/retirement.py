"""How near a model's end is, from its dates alone."""

from __future__ import annotations

from datetime import date
from typing import Literal, NamedTuple

from gateway_project.lib.formatting import day_words

# Further away than that, an end is a date to know and no reason to act.
NEAR_DAYS = 90

Stage = Literal["retired", "retiring", "deprecated", "dated"]
TONES: dict[Stage, str] = {"retired": "bad", "retiring": "warn", "deprecated": "warn", "dated": "muted"}


class Retirement(NamedTuple):
    """`days` until it is gone, where that is known."""

    stage: Stage
    deprecated_on: date | None
    retires_on: date | None
    days: int | None
    replaced_by: str

    @property
    def is_pressing(self) -> bool:
        return self.stage != "dated"

    @property
    def tone(self) -> str:
        return TONES[self.stage]

    @property
    def words(self) -> str:
        day = self.retires_on or self.deprecated_on
        words = day_words(day) if day else ""
        match self.stage:
            case "retired":
                return f"gone since {words}"
            case "deprecated" if self.retires_on is None:
                return f"deprecated since {words}"
            case _:
                return f"gone on {words}"


def of(*, deprecated_on: date | None, retires_on: date | None, replaced_by: str, today: date) -> Retirement | None:
    """None for a model whose end nobody has announced."""
    days = None if retires_on is None else (retires_on - today).days
    deprecated = deprecated_on is not None and deprecated_on <= today
    if days is None and not deprecated:
        return None
    stage: Stage = "deprecated" if deprecated else "dated"
    if days is not None and days <= NEAR_DAYS:
        stage = "retired" if days <= 0 else "retiring"
    return Retirement(stage, deprecated_on, retires_on, days, replaced_by)
