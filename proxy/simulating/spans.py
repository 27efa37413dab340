"""The period that a simulation replays, by the organisation's calendar: it begins where a day of budgets begins. Pure."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from guardrails import windows

LONGEST = timedelta(days=400)


class Span(NamedTuple):
    """[starts_at, ends_at), aware."""

    starts_at: datetime
    ends_at: datetime


def last_month(*, now: datetime, calendar: windows.Calendar) -> Span:
    this = _starts(now, "month", calendar)
    return Span(_starts(this - timedelta(seconds=1), "month", calendar), this)


def this_month(*, now: datetime, calendar: windows.Calendar) -> Span:
    """Up to now; never empty."""
    return Span(_starts(now, "month", calendar), now + timedelta(milliseconds=1))


def days(first: date, last: date, *, calendar: windows.Calendar) -> Span:
    """Both included. Days begin at the reset hour."""
    return Span(_day(first, calendar), _day(last + timedelta(days=1), calendar))


def _day(day: date, calendar: windows.Calendar) -> datetime:
    begins = datetime.combine(day, time(calendar.reset_hour), tzinfo=ZoneInfo(calendar.time_zone))
    # An hour on it is certainly within the day, even if the clocks jump over its beginning.
    return _starts(datetime.fromtimestamp(begins.timestamp() + 3600, tz=begins.tzinfo), "day", calendar)


def _starts(moment: datetime, kind: windows.Kind, calendar: windows.Calendar) -> datetime:
    found = windows.containing(moment, kind, calendar).starts_at
    if found is None:
        raise ValueError(f"a {kind} has a beginning")
    return found
