"""Figures for people: rounded once, never misleading."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib import formatting

NOW = datetime(2025, 11, 20, 12, 0, tzinfo=UTC)


def plain(text: str) -> str:
    return text.replace(formatting.NBSP, " ")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (7, "7"),
        (9_999, "9,999"),
        (10_000, "10 K"),
        (10_040, "10.0 K"),
        (32_000, "32 K"),
        (32_768, "32.8 K"),
        (2_000_000, "2 M"),
        (-2_000_000, "-2 M"),
        (1_000_000_000, "1 B"),
        (123_456, "123 K"),
        (999_499, "999 K"),
        (999_500, "1.00 M"),
        (1_284_110, "1.28 M"),
        (2_909_000_000, "2.91 B"),
        (999_999_999_999, "1.00 T"),
        (12_345 * 10**12, "12,345 T"),
        (-9_999, "-9,999"),
        (-250_000, "-250 K"),
        (-999_999, "-1.00 M"),
    ],
)
def test_counts_are_shortened_to_three_digits(number: int, shown: str) -> None:
    assert plain(formatting.compact(number)) == shown


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_a_shortened_count_is_never_off_by_more_than_half_a_per_cent(number: int) -> None:
    text = plain(formatting.compact(number)).replace(",", "")
    figure, _, unit = text.partition(" ")
    scale = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[unit]
    assert abs(Decimal(figure) * scale - number) <= Decimal(abs(number)) / 200


@given(st.integers(min_value=0, max_value=10**15 - 10**12))
def test_a_shortened_count_never_shows_four_digits_before_its_unit(number: int) -> None:
    figure, _, unit = plain(formatting.compact(number)).partition(" ")
    assert not unit or Decimal(figure) < 1000


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0, "0 ms"),
        (850, "850 ms"),
        (999, "999 ms"),
        (1000, "1.00 s"),
        (1920, "1.92 s"),
        (9_994, "9.99 s"),
        (9_996, "10.0 s"),
        (12_340, "12.3 s"),
        (59_949, "59.9 s"),
        (59_950, "1 min"),
        (60_000, "1 min"),
        (125_000, "2 min 5 s"),
        (3_600_000, "60 min"),
    ],
)
def test_durations_take_the_unit_that_suits_them(milliseconds: int, shown: str) -> None:
    assert plain(formatting.duration(milliseconds)) == shown


@pytest.mark.parametrize(
    ("age", "shown"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=-3), "just now"),
        (timedelta(seconds=42), "42 s ago"),
        (timedelta(minutes=3, seconds=59), "3 min ago"),
        (timedelta(hours=5, minutes=50), "5 h ago"),
        (timedelta(days=2, hours=23), "2 d ago"),
        (timedelta(days=-3), "in 3 d"),
        (timedelta(hours=-7), "in 7 h"),
        (timedelta(days=30), "Oct 21"),
        (timedelta(days=400), "Oct 16, 2024"),
        (timedelta(days=-60), "Jan 19, 2026"),
    ],
)
def test_moments_are_told_by_their_distance_and_far_ones_by_their_date(age: timedelta, shown: str) -> None:
    assert plain(formatting.ago(NOW - age, now=NOW)) == shown


def test_a_day_and_a_minute_are_written_without_noughts_before_the_day() -> None:
    moment = datetime(2026, 12, 1, 9, 5, 59, tzinfo=UTC)
    assert formatting.day_words(moment.date()) == "Dec 1, 2026"
    assert formatting.minute_words(moment) == "Dec 1, 2026, 09:05"


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "–"),
        (5, 0, "–"),
        (0, 10, "0%"),
        (31, 10_000, "0.31%"),
        (1, 1_000_000, "<0.01%"),
        (62, 1000, "6.2%"),
        (62, 100, "62%"),
        (1010, 1000, "101%"),
    ],
)
def test_shares_keep_the_digits_that_matter(part: int, whole: int, shown: str) -> None:
    assert formatting.percent(part, whole) == shown


@pytest.mark.parametrize(
    ("current", "previous", "shown"),
    [
        (1082, 1000, "+8.2%"),
        (880, 1000, "-12%"),
        (1000, 1000, "0%"),
        (10_001, 10_000, "0%"),
        (5, 0, ""),
        (0, 5, "-100%"),
        (9_000, 1000, "+800%"),
        (25_000, 1000, ""),
    ],
)
def test_a_change_is_told_against_the_period_before(current: int, previous: int, shown: str) -> None:
    assert formatting.change(current, previous) == shown


@pytest.mark.parametrize(
    ("spent", "held", "limit", "level", "used"),
    [
        (0, 0, 100, "ok", "0%"),
        (79, 0, 100, "ok", "79%"),
        (70, 10, 100, "near", "80%"),
        (100, 0, 100, "full", "100%"),
        (90, 10, 100, "full", "100%"),
        (0, 0, 0, "full", "100%"),
        (150, 0, 100, "full", "150%"),
    ],
)
def test_a_meter_says_how_near_its_limit_is(spent: int, held: int, limit: int, level: str, used: str) -> None:
    shown = formatting.meter(spent=spent, held=held, limit=limit)
    assert (shown.level, shown.used) == (level, used)


AMOUNTS = st.integers(min_value=0, max_value=9 * 10**18)


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_the_bars_of_a_meter_never_leave_it(spent: int, held: int, limit: int) -> None:
    shown = formatting.meter(spent=spent, held=held, limit=limit)
    widths = [Decimal(shown.spent_percent), Decimal(shown.held_percent)]
    assert all(width >= 0 for width in widths)
    assert sum(widths) <= Decimal("100.01")


def test_a_sparkline_runs_from_edge_to_edge_with_the_highest_value_on_top() -> None:
    points = formatting.sparkline_points([0, 10, 5], width=100, height=20)
    assert points == [(0.0, 19.0), (50.0, 1.0), (100.0, 10.0)]


def test_a_flat_sparkline_stands_on_the_ground() -> None:
    assert {y for _, y in formatting.sparkline_points([4, 4, 4], width=90, height=30)} == {29.0}


def test_no_values_make_no_line() -> None:
    assert formatting.sparkline_points([], width=90, height=30) == []


@given(st.lists(st.integers(min_value=-(10**18), max_value=10**18), min_size=1, max_size=60))
def test_a_sparkline_stays_inside_its_box(values: list[int]) -> None:
    points = formatting.sparkline_points(values, width=240, height=36)
    assert len(points) == len(values)
    assert all(0 <= x <= 240 and 1 <= y <= 35 for x, y in points)
