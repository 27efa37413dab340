"""Windows of every calendar in every time zone there is: they hold their moments and tile time."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from guardrails.windows import Calendar, Kind, Window, containing, day_begins, day_of, starts_between
from tests.examples import some

ZONES = sorted(available_timezones())
# Far away enough from UTC, or with changes of clocks odd enough, that each found a mistake in somebody's calendar.
ODD_ZONES = [
    "Africa/Cairo",  # skips midnight, and shows the hour before midnight twice
    "Africa/Casablanca",  # four changes a year
    "America/Asuncion",
    "America/Santiago",  # skips midnight
    "America/Sao_Paulo",  # skipped midnight
    "America/St_Johns",  # changed at a minute past midnight: the first minute of the day came twice
    "Antarctica/Casey",  # moved by three hours, at a minute past
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",  # skips midnight
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # moves by half an hour
    "Europe/Dublin",  # summer is its standard time
    "Pacific/Apia",  # left out 30 December 2011
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",  # left out 21 August 1993
]
LEFT_OUT = {date(2011, 12, 30), date(2011, 12, 31), date(1993, 8, 21), date(1993, 8, 20), date(1994, 12, 31), date(1995, 1, 1)}
SECOND, DAY, WEEK = timedelta(seconds=1), timedelta(days=1), timedelta(days=7)
FIRST, LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)

# The odd ones are half of what is drawn.
zones = st.sampled_from(ZONES + ODD_ZONES * (len(ZONES) // len(ODD_ZONES)))
calendars = st.builds(Calendar, zones, st.integers(0, 6), st.integers(1, 12), st.integers(0, 23))
moments = st.integers(int(FIRST.timestamp()), int(LAST.timestamp())).map(lambda at: datetime.fromtimestamp(at, tz=UTC))
kinds = st.sampled_from(["day", "week", "month", "quarter", "year"])
# Shortest and longest; a day of 20 hours and one of 28 are an hour more than any change of clocks so far needs.
LENGTHS: dict[Kind, tuple[timedelta, timedelta]] = {
    "day": (timedelta(hours=20), timedelta(hours=28)),
    "week": (timedelta(days=7, hours=-4), timedelta(days=7, hours=4)),
    "month": (timedelta(days=28, hours=-4), timedelta(days=31, hours=4)),
    "quarter": (timedelta(days=89, hours=-4), timedelta(days=92, hours=4)),
    "year": (timedelta(days=365, hours=-4), timedelta(days=366, hours=4)),
}


def bounds(moment: datetime, kind: Kind, calendar: Calendar | str) -> tuple[datetime, datetime]:
    window = containing(moment, kind, calendar)
    assert window.starts_at is not None
    assert window.ends_at is not None
    return window.starts_at, window.ends_at


def first_day(starts: datetime, calendar: Calendar) -> date:
    """By the wall clock; a day lasts from reset hour to reset hour."""
    wall = starts.astimezone(ZoneInfo(calendar.time_zone)).replace(tzinfo=None)
    return (wall - timedelta(hours=calendar.reset_hour)).date()


@settings(max_examples=some(200), deadline=None)
@given(calendars, moments, kinds)
@example(Calendar("America/Sao_Paulo"), datetime(2018, 11, 4, 3, tzinfo=UTC), "day")
@example(Calendar("Pacific/Apia"), datetime(2011, 12, 30, 10, tzinfo=UTC), "day")
@example(Calendar("Pacific/Apia", reset_hour=5), datetime(2011, 12, 30, 10, tzinfo=UTC), "day")
@example(Calendar("Pacific/Apia", week_start=4), datetime(2011, 12, 30, 10, tzinfo=UTC), "week")
@example(Calendar("Pacific/Apia"), datetime(2011, 12, 31, 10, tzinfo=UTC), "month")
@example(Calendar("America/St_Johns"), datetime(2009, 11, 1, 2, 45, tzinfo=UTC), "day")
@example(Calendar("America/St_Johns", reset_hour=1), datetime(2009, 3, 8, 3, 35, tzinfo=UTC), "day")
@example(Calendar("Antarctica/Casey", reset_hour=2), datetime(2020, 10, 3, 16, 10, tzinfo=UTC), "day")
def test_a_window_holds_its_moment_and_meets_its_neighbours(calendar: Calendar, moment: datetime, kind: Kind) -> None:
    starts, ends = bounds(moment, kind, calendar)

    assert starts <= moment < ends
    assert starts.tzinfo is ends.tzinfo is UTC
    assert bounds(starts, kind, calendar) == (starts, ends)
    assert bounds(ends - SECOND, kind, calendar) == (starts, ends)
    assert bounds(ends, kind, calendar)[0] == ends
    assert bounds(starts - SECOND, kind, calendar)[1] == starts


@settings(max_examples=some(150), deadline=None)
@given(calendars, moments, kinds)
def test_a_window_begins_on_its_day_and_is_as_long_as_its_name_says(calendar: Calendar, moment: datetime, kind: Kind) -> None:
    starts, ends = bounds(moment, kind, calendar)
    first = first_day(starts, calendar)
    assume(not LEFT_OUT & {first, first_day(ends, calendar), first_day(ends - SECOND, calendar)})

    shortest, longest = LENGTHS[kind]
    # A year or quarter that holds a day left out is a day shorter, no less.
    assert shortest - (DAY if kind in ("month", "quarter", "year", "week") else timedelta(0)) <= ends - starts <= longest
    if kind == "week":
        assert first.weekday() == calendar.week_start
    if kind in ("month", "quarter", "year"):
        assert first.day == 1
        assert (first.month - calendar.fiscal_month) % {"month": 1, "quarter": 3, "year": 12}[kind] == 0


@settings(max_examples=some(60), deadline=None)
@given(calendars, moments)
def test_a_day_begins_when_the_wall_clock_first_shows_the_reset_hour(calendar: Calendar, moment: datetime) -> None:
    """Against a walk through time, quarter by quarter, that knows nothing of zones but how to read a clock."""
    starts, ends = bounds(moment, "day", calendar)
    zone, quarter = ZoneInfo(calendar.time_zone), timedelta(minutes=15)
    ended = datetime.combine(first_day(ends, calendar), time(calendar.reset_hour))
    if first_day(ends, calendar) in LEFT_OUT:
        return

    at = starts
    while at.astimezone(zone).replace(tzinfo=None) < ended:
        at += quarter
    assert at == ends


@settings(max_examples=some(60), deadline=None)
@given(calendars, moments)
def test_the_day_of_a_moment_begins_where_its_window_does(calendar: Calendar, moment: datetime) -> None:
    assert day_begins(day_of(moment, calendar), calendar) == bounds(moment, "day", calendar)[0]


@settings(max_examples=some(60), deadline=None)
@given(calendars, moments, st.sampled_from(["week", "month", "quarter"]))
def test_days_tile_every_longer_window(calendar: Calendar, moment: datetime, kind: Kind) -> None:
    starts, ends = bounds(moment, kind, calendar)
    at = starts
    while at < ends:
        day_starts, day_ends = bounds(at, "day", calendar)
        assert day_starts == at
        at = day_ends

    assert at == ends


@settings(max_examples=some(60), deadline=None)
@given(calendars, moments)
def test_months_tile_quarters_and_quarters_years(calendar: Calendar, moment: datetime) -> None:
    year = bounds(moment, "year", calendar)
    months, quarters = (list(starts_between(*year, kind, calendar)) for kind in ("month", "quarter"))

    assert (len(months), len(quarters)) == (12, 4)
    assert months[::3] == quarters
    assert quarters[0] == year[0]


@settings(max_examples=some(60), deadline=None)
@given(calendars, moments, kinds, st.integers(0, 40 * 86400))
def test_starts_between_are_those_of_the_windows(calendar: Calendar, since: datetime, kind: Kind, seconds: int) -> None:
    until = since + timedelta(seconds=seconds)
    expected, at = [], bounds(since - SECOND, kind, calendar)[1]
    while at < until:
        expected.append(at)
        at = bounds(at, kind, calendar)[1]

    assert list(starts_between(since, until, kind, calendar)) == expected


@settings(max_examples=some(60), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([Calendar("Asia/Tokyo"), Calendar("Asia/Tokyo", 6, 4, 5)]), moments, kinds), max_size=12)
)
def test_what_was_asked_before_changes_no_answer(asked: list[tuple[Calendar, datetime, Kind]]) -> None:
    for calendar, moment, kind in [*asked, *reversed(asked)]:
        starts, ends = bounds(moment, kind, calendar)
        assert starts <= moment < ends
        assert list(starts_between(starts, ends, kind, calendar)) == [starts]


def changes_of_clocks(name: str) -> Iterator[datetime]:
    zone, at = ZoneInfo(name), FIRST
    offset = at.astimezone(zone).utcoffset()
    while at < LAST:
        later = at + WEEK
        changed = later.astimezone(zone).utcoffset()
        if changed != offset:
            before, after = at, later
            while after - before > SECOND:
                middle = (before + (after - before) / 2).replace(microsecond=0)
                same = middle.astimezone(zone).utcoffset() == offset
                before, after = (middle, after) if same else (before, middle)
            yield after
        at, offset = later, changed


def test_every_window_of_every_zone_begins_on_a_quarter_of_an_hour() -> None:
    """The ledger is summed by quarters of an hour. Only a change of clocks could put a start beside them."""
    changes = {tuple(changes_of_clocks(name)): name for name in ZONES}
    odd = set()
    for instants, name in changes.items():
        for change in instants:
            if change.timestamp() % 900:
                odd.add(name)
            walls = {at.astimezone(ZoneInfo(name)).hour for at in (change - SECOND, change)}
            for hour in {(wall + more) % 24 for wall in walls for more in (0, 1)}:
                for bound in bounds(change, "day", Calendar(name, reset_hour=hour)):
                    assert bound.timestamp() % 900 == 0, (name, hour, change)

    # Clocks did jump beside them, so the above can fail.
    assert len(odd) >= 4
    assert len(changes) > 150


def test_every_zone_is_a_whole_number_of_quarters_away_from_utc() -> None:
    days = [datetime(year, month, 1, tzinfo=UTC) for year in range(1990, 2038) for month in (1, 4, 7, 10)]
    offsets = {day.astimezone(ZoneInfo(name)).utcoffset() for name in ZONES for day in days}

    assert len(offsets) > 30
    assert {offset.total_seconds() % 900 for offset in offsets if offset is not None} == {0}


def known(calendar: Calendar | str, kind: Kind, moment: str, starts: str, ends: str) -> None:
    expected = (datetime.fromisoformat(starts), datetime.fromisoformat(ends))
    assert bounds(datetime.fromisoformat(moment), kind, calendar) == expected


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
        ("America/Santiago", "2026-09-06T04:00+00:00", "2026-09-06T04:00+00:00", "2026-09-07T03:00+00:00"),
        ("Asia/Beirut", "2026-03-28T22:00+00:00", "2026-03-28T22:00+00:00", "2026-03-29T21:00+00:00"),
        ("Africa/Cairo", "2026-04-23T22:00+00:00", "2026-04-23T22:00+00:00", "2026-04-24T21:00+00:00"),
        # The hour before midnight comes twice: the day begins after the second one.
        ("America/Santiago", "2026-04-05T03:30+00:00", "2026-04-04T03:00+00:00", "2026-04-05T04:00+00:00"),
        # The 30th does not exist: the 29th ends where the 31st begins.
        ("Pacific/Apia", "2011-12-30T09:59:59+00:00", "2011-12-29T10:00+00:00", "2011-12-30T10:00+00:00"),
        ("Pacific/Apia", "2011-12-30T10:00+00:00", "2011-12-30T10:00+00:00", "2011-12-31T10:00+00:00"),
    ],
)
def test_days_known_by_the_calendar(zone: str, moment: str, starts: str, ends: str) -> None:
    known(zone, "day", moment, starts, ends)
    known(Calendar(zone), "day", moment, starts, ends)


@pytest.mark.parametrize(
    ("calendar", "moment", "starts", "ends"),
    [
        (Calendar("UTC", reset_hour=5), "2026-03-01T04:59:59+00:00", "2026-02-28T05:00+00:00", "2026-03-01T05:00+00:00"),
        # 02:00 to 03:00 is left out on 29 March: the day begins with the first instant after, at 03:00 summer time.
        (Calendar("Europe/Berlin", reset_hour=2), "2026-03-29T01:00+00:00", "2026-03-29T01:00+00:00", "2026-03-30T00:00+00:00"),
        # 02:00 comes twice on 25 October: at 00:00 UTC and an hour later. The first one counts.
        (Calendar("Europe/Berlin", reset_hour=2), "2026-10-25T00:30+00:00", "2026-10-25T00:00+00:00", "2026-10-26T01:00+00:00"),
        (Calendar("Europe/Berlin", reset_hour=3), "2026-10-25T01:30+00:00", "2026-10-24T01:00+00:00", "2026-10-25T02:00+00:00"),
        # Left out is 02:00 to 02:30 only: three o'clock is the usual one.
        (
            Calendar("Australia/Lord_Howe", reset_hour=2),
            "2026-10-03T15:30+00:00",
            "2026-10-03T15:30+00:00",
            "2026-10-04T15:00+00:00",
        ),
        # The 30th was left out whole: its five o'clock is the first instant of the 31st, whose own follows.
        (Calendar("Pacific/Apia", reset_hour=5), "2011-12-30T09:00+00:00", "2011-12-29T15:00+00:00", "2011-12-30T10:00+00:00"),
        (Calendar("Pacific/Apia", reset_hour=5), "2011-12-30T10:00+00:00", "2011-12-30T10:00+00:00", "2011-12-30T15:00+00:00"),
        # From 00:01 to 01:01: one o'clock is left out, the next instant is 03:31 UTC, the next quarter 03:45.
        (
            Calendar("America/St_Johns", reset_hour=1),
            "2009-03-08T03:45+00:00",
            "2009-03-08T03:45+00:00",
            "2009-03-09T03:30+00:00",
        ),
    ],
)
def test_days_begin_at_the_reset_hour(calendar: Calendar, moment: str, starts: str, ends: str) -> None:
    known(calendar, "day", moment, starts, ends)


@pytest.mark.parametrize(
    ("week_start", "starts", "ends"),
    # 20 November 2026 is a Friday; five in the morning in Kathmandu is 23:15 UTC of the day before.
    [
        (0, "2026-11-15T23:15+00:00", "2026-11-22T23:15+00:00"),
        (4, "2026-11-19T23:15+00:00", "2026-11-26T23:15+00:00"),
        (5, "2026-11-13T23:15+00:00", "2026-11-20T23:15+00:00"),
        (6, "2026-11-14T23:15+00:00", "2026-11-21T23:15+00:00"),
    ],
)
def test_weeks_begin_on_the_organisations_day(week_start: int, starts: str, ends: str) -> None:
    known(Calendar("Asia/Kathmandu", week_start=week_start, reset_hour=5), "week", "2026-11-20T12:00+00:00", starts, ends)


def test_a_week_may_be_an_hour_short() -> None:
    known("Europe/Berlin", "week", "2026-03-25T12:00+00:00", "2026-03-22T23:00+00:00", "2026-03-29T22:00+00:00")


@pytest.mark.parametrize(
    ("moment", "starts", "ends"),
    [
        ("2026-01-31T23:00+00:00", "2026-01-31T15:00+00:00", "2026-02-28T15:00+00:00"),
        ("2024-02-29T12:00+00:00", "2024-01-31T15:00+00:00", "2024-02-29T15:00+00:00"),
        ("2026-12-31T15:00+00:00", "2026-12-31T15:00+00:00", "2027-01-31T15:00+00:00"),
    ],
)
def test_months_are_those_of_the_zone(moment: str, starts: str, ends: str) -> None:
    known("Asia/Tokyo", "month", moment, starts, ends)


@pytest.mark.parametrize(
    ("fiscal_month", "kind", "moment", "starts", "ends"),
    [
        (1, "quarter", "2026-11-20T12:00+00:00", "2026-10-01T00:00+00:00", "2027-01-01T00:00+00:00"),
        (4, "quarter", "2026-03-31T23:59:59+00:00", "2026-01-01T00:00+00:00", "2026-04-01T00:00+00:00"),
        (2, "quarter", "2026-01-15T00:00+00:00", "2025-11-01T00:00+00:00", "2026-02-01T00:00+00:00"),
        (12, "quarter", "2028-02-29T12:00+00:00", "2027-12-01T00:00+00:00", "2028-03-01T00:00+00:00"),
        (1, "year", "2028-02-29T12:00+00:00", "2028-01-01T00:00+00:00", "2029-01-01T00:00+00:00"),
        (4, "year", "2026-03-31T12:00+00:00", "2025-04-01T00:00+00:00", "2026-04-01T00:00+00:00"),
        (4, "year", "2026-04-01T00:00+00:00", "2026-04-01T00:00+00:00", "2027-04-01T00:00+00:00"),
        (12, "year", "2026-11-30T12:00+00:00", "2025-12-01T00:00+00:00", "2026-12-01T00:00+00:00"),
    ],
)
def test_quarters_and_years_follow_the_fiscal_month(fiscal_month: int, kind: Kind, moment: str, starts: str, ends: str) -> None:
    known(Calendar("UTC", fiscal_month=fiscal_month), kind, moment, starts, ends)


def test_the_last_evening_of_a_year_belongs_to_it_until_the_reset_hour() -> None:
    calendar = Calendar("America/New_York", fiscal_month=7, reset_hour=6)
    known(calendar, "year", "2026-07-01T09:59:59+00:00", "2025-07-01T10:00+00:00", "2026-07-01T10:00+00:00")
    known(calendar, "month", "2026-07-01T09:59:59+00:00", "2026-06-01T10:00+00:00", "2026-07-01T10:00+00:00")


def test_a_total_has_no_bounds() -> None:
    now = datetime.now(UTC)
    assert containing(now, "total", "Asia/Tokyo") == Window(None, None)
    assert list(starts_between(now - DAY, now, "total", "Asia/Tokyo")) == []


def test_the_moment_may_be_given_in_any_zone() -> None:
    utc = datetime(2026, 7, 1, 3, tzinfo=UTC)
    assert containing(utc.astimezone(ZoneInfo("America/New_York")), "month", "UTC") == containing(utc, "month", "UTC")


def test_starts_between_are_half_open() -> None:
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
    assert list(starts_between(since, until, "day", "UTC")) == [since, since + DAY]
    assert list(starts_between(since + SECOND, until + SECOND, "day", "UTC")) == [since + DAY, until]
    assert list(starts_between(since, since, "day", "UTC")) == []
    assert list(starts_between(until, since, "day", "UTC")) == []


def test_a_calendar_is_read_from_whatever_has_one() -> None:
    class Acme:
        time_zone, week_start, fiscal_month, reset_hour = "Asia/Tokyo", 6, 4, 5

    assert Calendar.of(Acme()) == Calendar("Asia/Tokyo", 6, 4, 5)
