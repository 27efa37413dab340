"""Windows in every time zone there is: they hold their moments and tile time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardrails.windows import Kind, Window, containing

ZONES = sorted(available_timezones())
# Far away enough from UTC, or with changes of clocks odd enough, that each found a mistake in somebody's calendar.
ODD_ZONES = [
    "America/Sao_Paulo",  # skips midnight
    "America/St_Johns",  # changed at a minute past midnight: the first minute of the day comes twice
    "Antarctica/Casey",  # moves by three hours
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # moves by half an hour
    "Pacific/Apia",  # left out 30 December 2011
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",  # left out 21 August 1993
]
zones = st.one_of(st.sampled_from(ZONES), st.sampled_from(ODD_ZONES))
moments = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
bounded_kinds = st.sampled_from(["day", "month"])
SECOND = timedelta(seconds=1)


def bounds(moment: datetime, kind: Kind, zone: str) -> tuple[datetime, datetime]:
    window = containing(moment, kind, zone)
    assert window.starts_at is not None
    assert window.ends_at is not None
    return window.starts_at, window.ends_at


@settings(max_examples=1000, deadline=None)
@given(zones, moments, bounded_kinds)
@example("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC), "day")
@example("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC), "day")
@example("Pacific/Apia", datetime(2011, 12, 31, 10, tzinfo=UTC), "month")
@example("America/St_Johns", datetime(2009, 11, 1, 2, 45, tzinfo=UTC), "day")
def test_a_window_holds_its_moment_and_meets_its_neighbours(zone: str, moment: datetime, kind: Kind) -> None:
    starts, ends = bounds(moment, kind, zone)

    assert starts <= moment < ends
    assert starts.tzinfo is ends.tzinfo is UTC
    assert bounds(starts, kind, zone) == (starts, ends)
    assert bounds(ends - SECOND, kind, zone) == (starts, ends)
    assert bounds(ends, kind, zone)[0] == ends
    assert bounds(starts - SECOND, kind, zone)[1] == starts


@settings(max_examples=500, deadline=None)
@given(zones, moments)
def test_a_window_begins_at_the_first_instant_of_its_local_day(zone: str, moment: datetime) -> None:
    starts, ends = bounds(moment, "day", zone)

    local = starts.astimezone(ZoneInfo(zone))
    assert (starts - SECOND).astimezone(ZoneInfo(zone)).date() < local.date()
    assert timedelta(0) < ends - starts <= timedelta(hours=28)
    assert starts.microsecond == 0
    # Baselines are sums of quarter hours.
    assert starts.timestamp() % 900 == 0


@settings(max_examples=300, deadline=None)
@given(zones, moments)
def test_days_tile_their_month(zone: str, moment: datetime) -> None:
    starts, ends = bounds(moment, "month", zone)
    at, days = starts, 0
    while at < ends:
        day_starts, day_ends = bounds(at, "day", zone)
        assert day_starts == at
        at, days = day_ends, days + 1

    assert at == ends
    assert 27 <= days <= 31


@pytest.mark.parametrize(
    ("zone", "moment", "starts", "ends"),
    [
        ("UTC", "2026-02-28T23:59:59+00:00", "2026-02-28T00:00+00:00", "2026-03-01T00:00+00:00"),
        # 23 and 25 hours.
        ("Europe/Berlin", "2026-03-29T12:00+00:00", "2026-03-28T23:00+00:00", "2026-03-29T22:00+00:00"),
        ("Europe/Berlin", "2026-10-25T12:00+00:00", "2026-10-24T22:00+00:00", "2026-10-25T23:00+00:00"),
        ("Asia/Kathmandu", "2026-05-05T18:14:59+00:00", "2026-05-04T18:15+00:00", "2026-05-05T18:15+00:00"),
        # Half an hour forward in October, back in April.
        ("Australia/Lord_Howe", "2026-10-04T01:00+00:00", "2026-10-03T13:30+00:00", "2026-10-04T13:00+00:00"),
        ("Australia/Lord_Howe", "2026-04-05T01:00+00:00", "2026-04-04T13:00+00:00", "2026-04-05T13:30+00:00"),
        # Midnight does not exist: the day begins at one o'clock.
        ("America/Sao_Paulo", "2018-11-04T03:00+00:00", "2018-11-04T03:00+00:00", "2018-11-05T02:00+00:00"),
        ("America/Sao_Paulo", "2018-11-04T02:59:59+00:00", "2018-11-03T03:00+00:00", "2018-11-04T03:00+00:00"),
        # The 30th does not exist: the 29th ends where the 31st begins.
        ("Pacific/Apia", "2011-12-30T09:59:59+00:00", "2011-12-29T10:00+00:00", "2011-12-30T10:00+00:00"),
        ("Pacific/Apia", "2011-12-30T10:00+00:00", "2011-12-30T10:00+00:00", "2011-12-31T10:00+00:00"),
    ],
)
def test_days_known_by_the_calendar(zone: str, moment: str, starts: str, ends: str) -> None:
    expected = (datetime.fromisoformat(starts), datetime.fromisoformat(ends))
    assert bounds(datetime.fromisoformat(moment), "day", zone) == expected


@pytest.mark.parametrize(
    ("moment", "starts", "ends"),
    [
        ("2026-01-31T23:00+00:00", "2026-01-31T15:00+00:00", "2026-02-28T15:00+00:00"),
        ("2024-02-29T12:00+00:00", "2024-01-31T15:00+00:00", "2024-02-29T15:00+00:00"),
        ("2026-12-31T15:00+00:00", "2026-12-31T15:00+00:00", "2027-01-31T15:00+00:00"),
    ],
)
def test_months_are_those_of_the_zone(moment: str, starts: str, ends: str) -> None:
    expected = (datetime.fromisoformat(starts), datetime.fromisoformat(ends))
    assert bounds(datetime.fromisoformat(moment), "month", "Asia/Tokyo") == expected


def test_a_total_has_no_bounds() -> None:
    assert containing(datetime.now(UTC), "total", "Asia/Tokyo") == Window(None, None)


def test_the_moment_may_be_given_in_any_zone() -> None:
    utc = datetime(2026, 7, 1, 3, tzinfo=UTC)
    assert containing(utc.astimezone(ZoneInfo("America/New_York")), "month", "UTC") == containing(utc, "month", "UTC")
