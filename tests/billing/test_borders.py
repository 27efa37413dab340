"""Sums of spend at the borders of windows, in zones where days begin at odd moments: each row lies in one window, to the
microsecond, whether it is in a bucket already or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from billing.buckets import spend_sums, spent_since
from guardrails.windows import Calendar, Kind, containing
from tests.billing import rows

INSTANT, QUARTER = timedelta(microseconds=1), timedelta(minutes=15)


class Place(NamedTuple):
    calendar: Calendar
    kind: Kind
    moment: datetime


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


# Nepal is 45 minutes beside the hour, Lord Howe puts its clock half an hour on; Santiago's begins a day at one o'clock in the
# night of the change; Apia's has no 30 December 2011.
PLACES = {
    "a day in Nepal": Place(Calendar("Asia/Kathmandu"), "day", utc(2026, 11, 20, 18, 20)),
    "the day on which Lord Howe changes": Place(Calendar("Australia/Lord_Howe"), "day", utc(2026, 10, 3, 20)),
    "a day that begins at one": Place(Calendar("America/Santiago"), "day", utc(2026, 9, 6, 12)),
    "the day after one that never was": Place(Calendar("Pacific/Apia"), "day", utc(2011, 12, 30, 15)),
    "a day that begins at an hour that is skipped": Place(Calendar("Europe/Berlin", reset_hour=2), "day", utc(2026, 3, 29, 12)),
    "a day that begins at an hour that comes twice": Place(Calendar("Europe/Berlin", reset_hour=2), "day", utc(2026, 10, 25, 12)),
    "a month across a change": Place(Calendar("America/New_York"), "month", utc(2026, 11, 20)),
    "a week across the year": Place(Calendar("Asia/Kolkata"), "week", utc(2026, 12, 31, 20)),
    "a quarter": Place(Calendar("America/St_Johns", reset_hour=5), "quarter", utc(2026, 10, 1, 8)),
}


def test_each_row_lies_in_one_window_closed_or_not(committed_db: None) -> None:
    """Before the window 1, in its first quarter 2 and 4, in its last 8 and 16, after it 32."""
    organizations = {name: rows.new_organization().pk for name in PLACES}
    windows = {name: containing(place.moment, place.kind, place.calendar) for name, place in PLACES.items()}

    def told(late: int) -> None:
        for name, organization in organizations.items():
            starts_at, ends_at = windows[name].starts_at, windows[name].ends_at
            assert starts_at is not None
            assert ends_at is not None
            sums = spend_sums(organization, subjects=["org"], starts=[ends_at, starts_at])
            before, within = sums.before["org", starts_at], sums.before["org", ends_at].minus(sums.before["org", starts_at])
            assert (before.charged, within.charged, sums.lifetime["org"].charged) == (1 * late, 30 * late, 63 * late), name
            since = spent_since(organization, [("org", starts_at), ("pool", ends_at), ("org", None)])
            assert [spend.charged for spend in since.values()] == [62 * late, 32 * late, 63 * late], name

    def spend(by: int = 1) -> None:
        for name, organization in organizations.items():
            starts_at, ends_at = windows[name].starts_at, windows[name].ends_at
            assert starts_at is not None
            assert ends_at is not None
            moments = (
                starts_at - INSTANT,
                starts_at,
                starts_at + QUARTER - INSTANT,
                ends_at - QUARTER,
                ends_at - INSTANT,
                ends_at,
            )
            for number, moment in enumerate(moments):
                rows.insert(organization, charged=by << number, recorded_at=moment)

    spend()
    told(1)
    rows.close_everything()
    told(1)
    spend()  # what comes late into buckets that are closed
    told(2)
    rows.close_everything()
    told(2)


@pytest.mark.parametrize("name", PLACES)
def test_where_one_window_ends_the_next_begins_and_a_bucket_does_too(name: str) -> None:
    """So nothing is summed by halves, and nothing lies between two windows."""
    place = PLACES[name]
    window = containing(place.moment, place.kind, place.calendar)
    assert window.starts_at is not None
    assert window.ends_at is not None
    assert window.starts_at <= place.moment < window.ends_at
    assert containing(window.ends_at, place.kind, place.calendar).starts_at == window.ends_at
    assert containing(window.starts_at - INSTANT, place.kind, place.calendar).ends_at == window.starts_at
    assert all(border.timestamp() % QUARTER.total_seconds() == 0 for border in (window.starts_at, window.ends_at))
