"""What a URL means: periods in the organisation's time zone, whose usage, and nonsense that is left out."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from analytics.filters import (
    PERIODS,
    Filters,
    Scope,
    calls_beginning_with,
    period_named,
    period_of_days,
    url_with,
)
from guardrails.windows import Calendar, containing, day_of
from tests.actors import World

NOW = datetime(2026, 11, 20, 16, 25, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "America/Santiago"]


def test_a_day_is_twenty_four_hours_up_to_this_one() -> None:
    period = period_named("24h", now=NOW, calendar="UTC")
    assert (period.starts_at, period.ends_at) == (datetime(2026, 11, 19, 17, tzinfo=UTC), datetime(2026, 11, 20, 17, tzinfo=UTC))
    assert (len(period.slots), period.step) == (24, "hour")
    assert (period.labels[0], period.labels[-1]) == ("17:00", "16:00")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", ["7d", "30d", "month"])
def test_days_that_are_named_are_those_of_the_period_that_holds_them(zone: str, name: str) -> None:
    calendar = Calendar(zone, reset_hour=3)
    named = period_named(name, now=NOW, calendar=calendar)
    days = period_of_days(day_of(named.slots[0], calendar), day_of(NOW, calendar), now=NOW, calendar=calendar)
    assert (days.starts_at, days.ends_at, days.slots, days.step) == (named.starts_at, named.ends_at, named.slots, "day")
    if name != "month":  # which is compared with the month before, however long that was
        assert (days.before_starts_at, days.before_ends_at) == (named.before_starts_at, named.before_ends_at)


def test_a_day_that_a_change_of_the_zone_left_out_holds_nothing() -> None:
    left_out = date(2011, 12, 30)
    period = period_of_days(left_out, left_out, now=NOW, calendar=Calendar("Pacific/Apia"))
    assert (period.starts_at == period.ends_at, len(period.slots)) == (True, 1)


def test_days_begin_at_local_midnight() -> None:
    period = period_named("7d", now=NOW, calendar="Asia/Kolkata")
    assert period.starts_at == datetime(2026, 11, 13, 18, 30, tzinfo=UTC)
    assert period.labels == ["Nov 14", "Nov 15", "Nov 16", "Nov 17", "Nov 18", "Nov 19", "Nov 20"]


def test_days_begin_at_the_reset_hour() -> None:
    calendar = Calendar("Asia/Kolkata", reset_hour=5)
    period = period_named("7d", now=NOW, calendar=calendar)
    assert period.starts_at == datetime(2026, 11, 13, 23, 30, tzinfo=UTC)
    assert period.ends_at == datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    assert period.labels == ["Nov 14", "Nov 15", "Nov 16", "Nov 17", "Nov 18", "Nov 19", "Nov 20"]
    night = datetime(2026, 11, 20, 23, tzinfo=UTC)
    assert period_named("7d", now=night, calendar=calendar).labels == period.labels
    assert period_named("7d", now=night, calendar="Asia/Kolkata").labels[-1] == "Nov 21"


def test_a_month_begins_at_the_reset_hour_of_its_first_day() -> None:
    early = datetime(2026, 11, 1, 4, 59, tzinfo=UTC)
    period = period_named("month", now=early, calendar=Calendar("UTC", reset_hour=5))
    assert (period.starts_at, len(period.slots)) == (datetime(2026, 10, 1, 5, tzinfo=UTC), 31)
    assert period.before_starts_at == datetime(2026, 9, 1, 5, tzinfo=UTC)


def test_a_day_left_out_is_no_slot() -> None:
    """Samoa went from the 29th to the 31st."""
    period = period_named("7d", now=datetime(2012, 1, 2, 20, tzinfo=UTC), calendar="Pacific/Apia")
    assert period.labels == ["Dec 27", "Dec 28", "Dec 29", "Dec 31", "Jan 1", "Jan 2", "Jan 3"]


@given(st.sampled_from(ZONES), st.integers(0, 23), st.integers(1_300_000_000, 1_900_000_000))
def test_the_last_slot_of_a_chart_is_todays_budget_window(zone: str, hour: int, second: int) -> None:
    now, calendar = datetime.fromtimestamp(second, tz=UTC), Calendar(zone, reset_hour=hour)
    for name, count in (("7d", 7), ("30d", 30)):
        period = period_named(name, now=now, calendar=calendar)
        assert (period.slots[-1], period.ends_at) == containing(now, "day", calendar)
        assert len(period.slots) == count


def test_late_in_the_evening_it_is_tomorrow_further_east() -> None:
    late = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    assert period_named("7d", now=late, calendar="Europe/Berlin").labels[-1] == "Nov 21"
    assert period_named("7d", now=late, calendar="UTC").labels[-1] == "Nov 20"


def test_a_month_is_compared_with_as_much_of_the_month_before() -> None:
    period = period_named("month", now=NOW, calendar="UTC")
    assert (period.starts_at, len(period.slots)) == (datetime(2026, 11, 1, tzinfo=UTC), 20)
    assert (period.before_starts_at, period.before_ends_at) == (
        datetime(2026, 10, 1, tzinfo=UTC),
        datetime(2026, 10, 20, 16, tzinfo=UTC),
    )
    assert period.before == "Oct 1 – Oct 20, 16:00"


@pytest.mark.parametrize(
    ("name", "now", "before"),
    [
        ("month", datetime(2026, 12, 1, 2, 22, tzinfo=UTC), "Nov 1, 00:00 – 02:00"),
        ("month", datetime(2026, 12, 1, 23, 40, tzinfo=UTC), "Nov 1"),
        ("month", datetime(2026, 12, 2, 0, 10, tzinfo=UTC), "Nov 1"),
        ("month", datetime(2026, 12, 3, 0, 10, tzinfo=UTC), "Nov 1 – Nov 2"),
        ("month", datetime(2026, 3, 31, 22, tzinfo=UTC), "Feb 1 – Feb 28"),
        ("7d", datetime(2026, 12, 1, 2, 22, tzinfo=UTC), "Nov 18 – Nov 24, 02:00"),
        ("24h", datetime(2026, 12, 1, 2, 22, tzinfo=UTC), "Nov 29, 03:00 – Nov 30, 02:00"),
    ],
)
def test_what_is_compared_with_is_named_to_the_hour_where_a_day_is_not_over(name: str, now: datetime, before: str) -> None:
    assert period_named(name, now=now, calendar="UTC").before == before


@pytest.mark.parametrize(
    ("zone", "now", "hours"),
    [
        ("UTC", datetime(2026, 12, 1, 2, 22, tzinfo=UTC), 24),
        ("Asia/Kolkata", datetime(2026, 11, 30, 18, 30, tzinfo=UTC), 24),
        ("America/Havana", datetime(2026, 11, 1, 12, tzinfo=UTC), 25),
        ("Africa/Cairo", datetime(2015, 5, 1, 12, tzinfo=UTC), 24),
    ],
)
def test_the_first_day_of_a_month_is_drawn_by_its_hours(zone: str, now: datetime, hours: int) -> None:
    days = period_named("month", now=now, calendar=zone)
    assert (days.step, len(days.slots)) == ("day", 1)
    period = days.drawn
    assert (period.starts_at, period.ends_at, period.before_ends_at) == (days.starts_at, days.ends_at, days.before_ends_at)
    assert (period.step, len(period.slots), period.slots[0]) == ("hour", hours, period.starts_at)
    assert period.labels[0] == "00:00"
    assert period.slots[-1] + timedelta(hours=1) == period.ends_at
    after = period_named("month", now=now + timedelta(days=1), calendar=zone)
    assert after.drawn is after


def test_days_that_begin_at_the_reset_hour_are_named_by_their_beginning() -> None:
    first, last = date(2026, 11, 11), date(2026, 11, 20)
    calendar = Calendar("Europe/Berlin", reset_hour=5)
    assert period_of_days(first, last, now=datetime(2026, 12, 1, tzinfo=UTC), calendar=calendar).before == "Nov 1 – Nov 10"
    spring = period_of_days(date(2026, 3, 30), date(2026, 3, 31), now=datetime(2026, 5, 1, tzinfo=UTC), calendar=calendar)
    assert spring.before == "Mar 28 – Mar 29", "one of these has 23 hours"


def test_a_longer_month_ends_no_later_than_it_began_again() -> None:
    end = datetime(2026, 3, 31, 22, tzinfo=UTC)
    period = period_named("month", now=end, calendar="UTC")
    assert period.before_ends_at == period.starts_at == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", [None, "", "1y", "24H", "month "])
def test_an_unknown_period_is_the_usual_one(name: str | None) -> None:
    assert period_named(name, now=NOW, calendar="UTC").name == "30d"


@given(st.sampled_from(sorted(PERIODS)), st.sampled_from(ZONES), st.integers(1_300_000_000, 1_900_000_000))
def test_every_moment_of_every_period_lies_in_one_slot(name: str, zone: str, second: int) -> None:
    now = datetime.fromtimestamp(second, tz=UTC)
    period = period_named(name, now=now, calendar=zone)
    assert period.starts_at == period.slots[0] <= now < period.ends_at
    assert list(period.slots) == sorted(set(period.slots))
    assert period.before_starts_at <= period.before_ends_at <= period.starts_at + timedelta(hours=1)
    assert len(period.labels) == len(period.slots)


@pytest.mark.parametrize("text", ["01a1f996-90a0-7000", "01A1F99690A07000", "req_01a1", "01a1f996-90a0-7000-8852-10aa9b5e519a"])
def test_the_beginning_of_a_request_id_finds_it(text: str) -> None:
    bounds = calls_beginning_with(text)
    assert bounds is not None
    assert bounds[0] <= UUID("01a1f996-90a0-7000-8852-10aa9b5e519a") <= bounds[1]


@pytest.mark.parametrize("text", ["01a", "hello", "", "0" * 33, "gh_sk_abc"])
def test_anything_else_is_no_request_id(text: str) -> None:
    assert calls_beginning_with(text) is None


def test_links_keep_the_other_filters_and_drop_the_page() -> None:
    query = QueryDict("period=7d&model=a b&before=x")
    assert url_with(query, {"model": None}) == "?period=7d"
    assert url_with(query, {"group": "3"}) == "?period=7d&model=a+b&group=3"
    assert url_with(QueryDict(), {}) == "?"


def test_filters_are_read_from_the_address() -> None:
    filters = Filters.of(QueryDict("group=3&member=x&model=gpt&status=failed&key=5"))
    assert filters == Filters(group=3, key=5, model="gpt", status="failed")
    sql, values = filters.sql()
    assert sql.count("%(") == 4
    assert values["key"] == 5
    assert Filters().sql()[0] == "true"


def test_whose_usage_it_is(world: World) -> None:
    assert Scope.of(world.actor("alice")).whole
    assert Scope.of(world.actor("lena")).group_ids == (world.engineering.pk,)
    assert Scope.of(world.actor("mia")).is_own
    assert not Scope.of(world.actor("sam")).is_own
