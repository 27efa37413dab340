"""How near a model's end is."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import retirement

TODAY = date(2026, 11, 28)


def of(deprecated_on: date | None = None, retires_on: date | None = None) -> retirement.Retirement | None:
    return retirement.of(deprecated_on=deprecated_on, retires_on=retires_on, replaced_by="next", today=TODAY)


def test_what_nobody_announced_has_no_end() -> None:
    assert of() is None
    assert of(deprecated_on=TODAY + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("deprecated_on", "retires_on", "stage", "words", "pressing"),
    [
        (None, date(2026, 11, 28), "retired", "gone since Nov 28, 2026", True),
        (date(2026, 1, 1), date(2026, 11, 1), "retired", "gone since Nov 1, 2026", True),
        (None, date(2026, 11, 29), "retiring", "gone on Nov 29, 2026", True),
        (None, TODAY + timedelta(days=90), "retiring", "gone on Feb 26, 2027", True),
        (None, TODAY + timedelta(days=91), "dated", "gone on Feb 27, 2027", False),
        (date(2026, 11, 28), None, "deprecated", "deprecated since Nov 28, 2026", True),
        (date(2026, 1, 1), date(2028, 5, 14), "deprecated", "gone on May 14, 2028", True),
        (date(2027, 1, 1), date(2028, 5, 14), "dated", "gone on May 14, 2028", False),
    ],
)
def test_stages(deprecated_on: date | None, retires_on: date | None, stage: str, words: str, pressing: bool) -> None:
    found = of(deprecated_on, retires_on)
    assert found is not None
    assert (found.stage, found.words, found.is_pressing) == (stage, words, pressing)


DAYS = st.one_of(st.none(), st.dates(date(2025, 1, 1), date(2030, 1, 1)))


@given(DAYS, DAYS)
def test_an_end_never_moves_away_as_time_passes(deprecated_on: date | None, retires_on: date | None) -> None:
    order = ["dated", "deprecated", "retiring", "retired"]

    def stage_on(today: date) -> int:
        found = retirement.of(deprecated_on=deprecated_on, retires_on=retires_on, replaced_by="", today=today)
        return order.index(found.stage) if found else -1

    stages = [stage_on(TODAY + timedelta(days=days)) for days in range(-800, 1300, 17)]
    assert stages == sorted(stages)
