"""Budget windows: when the one that holds a moment begins and ends, in the organisation's time zone.

Pure. A window begins at local midnight; where a change of clocks skips midnight, at the first instant
that exists after it (PEP 495: a time in the gap, read with fold=0, maps to that instant in UTC).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

Kind = Literal["day", "month", "total"]


class Window(NamedTuple):
    """`starts_at` ≤ moment < `ends_at`, both aware UTC; None where there is no bound."""

    starts_at: datetime | None
    ends_at: datetime | None


def containing(moment: datetime, kind: Kind, time_zone: str) -> Window:
    """The window of this kind that holds the moment (aware)."""
    if kind == "total":
        return Window(None, None)
    zone = ZoneInfo(time_zone)
    today = moment.astimezone(zone).date()
    # Near a change of clocks the local date alone can name a window that has just ended or not begun.
    for candidate in (today, today + timedelta(days=1), today - timedelta(days=1)):
        window = Window(_midnight(_first(candidate, kind), zone), _midnight(_next(candidate, kind), zone))
        if window.starts_at is not None and window.ends_at is not None and window.starts_at <= moment < window.ends_at:
            return window
    raise ArithmeticError(f"no {kind} window of {time_zone} holds {moment.isoformat()}")


def _first(day: date, kind: Kind) -> date:
    return day if kind == "day" else day.replace(day=1)


def _next(day: date, kind: Kind) -> date:
    return day + timedelta(days=1) if kind == "day" else (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day. A skipped midnight: the instant the clocks jumped."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    instant = local.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return instant
    # In the gap: the wall clock before the jump and the one after it enclose the jump itself.
    before, after = (local.replace(fold=fold).astimezone(UTC) for fold in (1, 0))
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone(zone).date() < day:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)
