"""Budget windows: when the one that holds a moment begins and ends, by the organisation's calendar.

Pure. A window begins at the reset hour, local time, of its first day. Where a change of clocks skips that hour, at the
next instant that exists; where the hour comes twice, at its first time. Where that instant is no quarter of an hour
(clocks that jumped at a minute past midnight), at the quarter after it: the ledger is summed by quarters of an hour in
UTC, so every baseline is exact. Each window ends where the next begins: together they tile time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

Kind = Literal["day", "week", "month", "quarter", "year", "total"]

BOUNDED: tuple[Kind, ...] = ("day", "week", "month", "quarter", "year")
MONTHS = {"month": 1, "quarter": 3, "year": 12}
QUARTER_HOUR = 900
SECOND = timedelta(seconds=1)
MOST_REMEMBERED = 10_000


class Dated(Protocol):
    """An organisation, or the principal of a call in it."""

    @property
    def time_zone(self) -> str: ...
    @property
    def week_start(self) -> int: ...
    @property
    def fiscal_month(self) -> int: ...
    @property
    def reset_hour(self) -> int: ...


class Calendar(NamedTuple):
    """`week_start`: 0 is Monday, 6 Sunday. `fiscal_month`: the month a year begins in. `reset_hour`: 0–23, local time."""

    time_zone: str
    week_start: int = 0
    fiscal_month: int = 1
    reset_hour: int = 0

    @classmethod
    def of(cls, dated: Dated) -> Calendar:
        return cls(dated.time_zone, dated.week_start, dated.fiscal_month, dated.reset_hour)


class Window(NamedTuple):
    """`starts_at` ≤ moment < `ends_at`, both aware UTC; None where there is no bound."""

    starts_at: datetime | None
    ends_at: datetime | None


# The window found last, by kind and calendar: limits are compiled far more often than windows end.
_last: dict[tuple[Kind, Calendar], tuple[datetime, datetime, Window]] = {}


def containing(moment: datetime, kind: Kind, calendar: Calendar | str) -> Window:
    """The window of this kind that holds the moment (aware). A time zone alone is a calendar that begins at midnight."""
    if kind == "total":
        return Window(None, None)
    calendar = Calendar(calendar) if isinstance(calendar, str) else calendar
    known = _last.get((kind, calendar))
    if known is not None and known[0] <= moment < known[1]:
        return known[2]
    starts_at, ends_at = _bounds(moment, kind, calendar)
    window = Window(starts_at, ends_at)
    if len(_last) >= MOST_REMEMBERED:
        _last.clear()
    _last[kind, calendar] = (starts_at, ends_at, window)
    return window


def starts_between(since: datetime, until: datetime, kind: Kind, calendar: Calendar | str) -> Iterator[datetime]:
    """The moments in [since, until) at which windows of this kind begin, ascending; none for "total"."""
    if kind == "total":
        return
    calendar = Calendar(calendar) if isinstance(calendar, str) else calendar
    zone = ZoneInfo(calendar.time_zone)
    first = _first(_local_day(since, calendar, zone), kind, calendar)
    before: datetime | None = None
    while (start := _begin(first, calendar, zone)) < until:
        # A day that was left out begins and ends with the next one.
        if start >= since and start != before:
            yield start
        first, before = _next(first, kind), start


def day_begins(day: date, calendar: Calendar) -> datetime:
    """The moment (UTC) at which this day of the organisation begins."""
    return _begin(day, calendar, ZoneInfo(calendar.time_zone))


def day_of(moment: datetime, calendar: Calendar) -> date:
    """The day of the organisation that holds the moment."""
    return _local_day(containing(moment, "day", calendar).starts_at or moment, calendar, ZoneInfo(calendar.time_zone))


def _bounds(moment: datetime, kind: Kind, calendar: Calendar) -> tuple[datetime, datetime]:
    zone = ZoneInfo(calendar.time_zone)
    first = _first(_local_day(moment, calendar, zone), kind, calendar)
    # Near a change of clocks the local time alone can name a window that has just ended or not begun.
    while (starts_at := _begin(first, calendar, zone)) > moment:
        first = _first(first - timedelta(days=1), kind, calendar)
    while (ends_at := _begin(_next(first, kind), calendar, zone)) <= moment:
        first, starts_at = _next(first, kind), ends_at
    return starts_at, ends_at


def _local_day(moment: datetime, calendar: Calendar, zone: ZoneInfo) -> date:
    """The day by the wall clock, where days begin at the reset hour."""
    wall = moment.astimezone(zone).replace(tzinfo=None)
    return (wall - timedelta(hours=calendar.reset_hour)).date()


def _first(day: date, kind: Kind, calendar: Calendar) -> date:
    """The first day of the window that this day belongs to."""
    if kind == "day":
        return day
    if kind == "week":
        return day - timedelta(days=(day.weekday() - calendar.week_start) % 7)
    return _months_later(day, -((day.month - calendar.fiscal_month) % MONTHS[kind]))


def _next(first: date, kind: Kind) -> date:
    if kind in MONTHS:
        return _months_later(first, MONTHS[kind])
    return first + timedelta(days=7 if kind == "week" else 1)


def _months_later(day: date, months: int) -> date:
    """The first of the month that many months later."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _begin(day: date, calendar: Calendar, zone: ZoneInfo) -> datetime:
    """The first instant, on a quarter of an hour in UTC, at which the wall clock shows the reset hour of this day or more."""
    wall = datetime.combine(day, time(calendar.reset_hour))
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall(instant, zone) != wall:
        instant = _jump(wall, zone)
    over = instant.timestamp() % QUARTER_HOUR
    return instant + timedelta(seconds=QUARTER_HOUR - over) if over else instant


def _jump(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clocks jumped over this time: the offset after the jump puts it before, the one before it after (PEP 495)."""
    before, after = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    while after - before > SECOND:
        middle = (before + (after - before) / 2).replace(microsecond=0)
        before, after = (middle, after) if _wall(middle, zone) < wall else (before, middle)
    return after


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)
