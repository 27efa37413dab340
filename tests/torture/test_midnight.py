"""A midnight within the run: where there is one, the zone has it at that very moment."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import some
from tests.torture.midnight import MARGIN, choose, look_in, tzif

TEN = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


@pytest.fixture
def zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYTHONTZPATH", "")
    before = zoneinfo.TZPATH
    look_in(tmp_path / "zones")
    yield tmp_path / "zones"
    zoneinfo.reset_tzpath(before)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=some(30))
@given(minute=st.integers(0, 24 * 60 - 1), seconds=st.integers(30, 600), patience=st.integers(0, 900))
def test_the_midnight_falls_within_the_run(zones: Path, minute: int, seconds: int, patience: int) -> None:
    now = TEN + timedelta(minutes=minute, seconds=7)

    near = choose(now, seconds=seconds, patience=patience, folder=zones)

    if near.at is None:
        assert near.zone == "UTC"
        return
    assert 0 <= near.wait <= patience
    begins, ends = now + timedelta(seconds=near.wait), now + timedelta(seconds=near.wait + seconds)
    assert begins <= near.at <= ends - MARGIN + timedelta(seconds=1)
    local = near.at.astimezone(zoneinfo.ZoneInfo.no_cache(near.zone))
    assert (local.hour, local.minute, local.second) == (0, 0, 0)


def test_whoever_waits_a_quarter_of_an_hour_always_has_one(zones: Path) -> None:
    for minute in range(60):
        assert choose(TEN + timedelta(minutes=minute), seconds=60, patience=900, folder=zones).at is not None


def test_without_patience_none_is_near(zones: Path) -> None:
    assert choose(TEN + timedelta(minutes=3), seconds=60, patience=0, folder=zones).at is None


def test_on_the_hour_it_is_a_zone_that_everybody_knows(zones: Path) -> None:
    assert choose(TEN - timedelta(minutes=1), seconds=120, patience=0, folder=zones).zone == "Etc/GMT+10"
    assert choose(TEN + timedelta(hours=4, minutes=-1), seconds=120, patience=0, folder=zones).zone == "Etc/GMT-10"


@pytest.mark.parametrize("minutes", [-705, -15, 0, 345, 720])
def test_a_zone_file_has_its_offset(minutes: int) -> None:
    zone = zoneinfo.ZoneInfo.from_file(BytesIO(tzif(minutes * 60)))

    assert TEN.astimezone(zone).utcoffset() == timedelta(minutes=minutes)
