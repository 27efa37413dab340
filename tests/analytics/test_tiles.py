"""Tiles, averages and leaders from sums alone: no division by nothing, each figure from the whole and not from rounded parts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from analytics.filters import Filters, period_named
from analytics.pages import Tile, averages, compared_with, leaders, overview_filters, tiles
from analytics.usage import TOP_NAMES, Share, Sums, Usage

NOW = datetime(2026, 11, 20, 16, 25, tzinfo=UTC)
PERIOD = period_named("7d", now=NOW, calendar="UTC")
COUNTS = st.integers(0, 10**9)
SUMS = st.builds(
    lambda charged, ok, tokens, errors, refused: Sums(charged, ok + errors + refused, tokens, tokens // 2, errors, refused),
    st.integers(0, 10**18), COUNTS, st.integers(0, 10**15), COUNTS, COUNTS,
)  # fmt: skip


NOTHING = Sums()


def usage(total: Sums = NOTHING, before: Sums = NOTHING, **shares: list[Share]) -> Usage:
    of = {name: shares.get(name, []) for name in ("models", "members", "groups", "applications")}
    return Usage(total, before, [total, *[Sums()] * 6], {}, **of)


def shown(total: Sums, before: Sums = NOTHING, query: str = "") -> dict[str, Tile]:
    return {
        tile.label: tile for tile in tiles(usage(total, before), period=PERIOD, now=NOW, query=QueryDict(query), log="/calls/")
    }


def test_nothing_at_all_is_shown_as_nothing() -> None:
    found = shown(Sums())
    assert (found["Spend"].value, found["Spend"].title, found["Calls"].value, found["Tokens"].value) == ("$0.00", "$0", "0", "0")
    assert found["Errors"].value == "–"
    assert {tile.delta for tile in found.values()} == {""}
    assert {one.label: one.value for one in averages(usage(), is_own=False)} == {
        "Members who called": "0", "Spend per member": "–", "Tokens per member": "–", "Cost per call": "–",
        "Tokens per call": "–", "Models in use": "0",
    }  # fmt: skip


@given(SUMS, SUMS)
def test_any_sums_whatever_can_be_shown(total: Sums, before: Sums) -> None:
    found = shown(total, before)
    assert set(found) == {"Spend", "Calls", "Tokens", "Errors"}
    assert found["Calls"].title == f"{total.calls:,}"
    assert all(len(tile.values) == 7 and tile.values[0] >= 0 for tile in found.values())
    assert found["Errors"].delta_tone in ("muted", "ok", "bad")
    assert {one.label for one in averages(usage(total, before), is_own=True)} == {
        "Cost per call",
        "Tokens per call",
        "Models in use",
    }


def test_the_line_of_a_tile_ends_now() -> None:
    now = datetime(2026, 12, 1, 2, 22, tzinfo=UTC)
    period = period_named("month", now=now, calendar="UTC").drawn
    hours = Usage(Sums(calls=9), Sums(), [Sums(calls=3)] * 3 + [Sums()] * 21, {}, [], [], [], [])
    found = tiles(hours, period=period, now=now, query=QueryDict(), log="/calls/")
    assert [tile.values for tile in found if tile.label == "Calls"] == [[3, 3, 3]]


def test_averages_are_of_calls_that_ran() -> None:
    refused = Sums(charged=44_000_000_000, calls=3, tokens=44, refused=2)
    found = {one.label: one for one in averages(usage(refused), is_own=True)}
    assert (found["Tokens per call"].value, found["Cost per call"].value) == ("44", "$44.00")
    assert found["Tokens per call"].note == found["Cost per call"].note == "refused ones left out"
    assert shown(refused)["Spend"].sub == "$44.00 a call on average"
    none_ran = {one.label: one for one in averages(usage(Sums(calls=2, refused=2)), is_own=True)}
    assert (none_ran["Tokens per call"].value, none_ran["Cost per call"].value, none_ran["Cost per call"].note) == ("–", "–", "")


@pytest.mark.parametrize(
    ("now", "before", "delta", "tone"),
    [
        ((100, 10), (100, 5), "+5.00 pp", "bad"),
        ((100, 5), (100, 10), "-5.00 pp", "ok"),
        ((200, 10), (100, 5), "±0 pp", "muted"),
        ((3, 1), (0, 0), "", "muted"),
        ((0, 0), (3, 1), "", "muted"),
        ((1_000_000, 1), (1_000_000, 0), "±0 pp", "bad"),
        ((3, 1), (3, 2), "-33.33 pp", "ok"),
    ],
)
def test_error_rates_are_compared_in_points(now: tuple[int, int], before: tuple[int, int], delta: str, tone: str) -> None:
    def sums(calls: int, errors: int) -> Sums:
        return Sums(calls=calls, errors=errors)

    tile = shown(sums(*now), sums(*before))["Errors"]
    assert (tile.delta, tile.delta_tone) == (delta, tone)


@pytest.mark.parametrize(("before", "comparable"), [(0, False), (9, False), (10, True), (1000, True)])
def test_a_period_that_was_hardly_covered_is_nothing_to_compare_with(before: int, comparable: bool) -> None:
    now = Sums(charged=100, calls=100, tokens=100, errors=1)
    then = Sums(charged=before, calls=before, tokens=before, errors=1)
    tiles = shown(now, then)
    assert {bool(tile.delta) for tile in tiles.values()} == {comparable}
    words = compared_with(usage(now, then), period=PERIOD)
    too_few = f"too few calls in {PERIOD.before} to compare with" if before else ""
    assert words == (f"compared with {PERIOD.before}" if comparable else too_few)


def test_a_period_before_without_any_call_is_not_spoken_of() -> None:
    assert compared_with(usage(Sums(calls=100, charged=100), Sums()), period=PERIOD) == ""
    assert compared_with(usage(Sums(), Sums()), period=PERIOD) == ""


def test_a_tile_keeps_the_filters_in_its_link_and_names_the_period() -> None:
    found = shown(Sums(calls=1), query="group=3&model=a b&before=x")
    assert found["Calls"].url == "/calls/?group=3&model=a+b&period=7d"
    assert found["Errors"].url == "/calls/?group=3&model=a+b&period=7d&status=failed"
    assert found["Spend"].url == found["Tokens"].url == ""


def test_refusals_and_cached_tokens_are_told_where_there_are_any() -> None:
    found = shown(Sums(calls=4, refused=1, tokens=1000, cached=250))
    assert found["Calls"].sub.startswith("1 refused")
    assert found["Tokens"].sub.startswith("25%")
    assert "1" not in shown(Sums(calls=4))["Calls"].sub
    assert "%" not in shown(Sums(tokens=4))["Tokens"].sub


@pytest.mark.parametrize(
    ("charged", "calls", "each"), [(3 * 10**9, 2, "$1.50"), (10**9, 3, "$0.33"), (0, 5, "$0"), (10**9, 1, "$1.00")]
)
def test_the_average_is_of_the_whole(charged: int, calls: int, each: str) -> None:
    average = {one.label: one.value for one in averages(usage(Sums(charged=charged, calls=calls)), is_own=True)}["Cost per call"]
    assert average.startswith(each)


def test_members_who_did_not_call_take_no_part_in_the_average() -> None:
    people = [Share(1, "a", Sums(charged=4 * 10**9, calls=2)), Share(2, "b", Sums())]
    found = {one.label: one for one in averages(usage(Sums(charged=4 * 10**9, calls=2, tokens=10), members=people), is_own=False)}
    assert found["Members who called"].value == "1"
    assert found["Spend per member"][1:] == ("$4.00", "$4.00 in all")


def test_an_average_of_members_says_what_was_divided() -> None:
    """Service keys belong to nobody: what they spent is in the tiles, and in no member's share."""
    people = [Share(number, f"p{number}", Sums(charged=3 * 10**9, calls=1, tokens=500)) for number in range(7)]
    total = Sums(charged=100 * 10**9, calls=20, tokens=10_000)
    count, spend, tokens, *_ = averages(usage(total, members=people), is_own=False)
    assert count == ("Members who called", "7", "")
    assert spend == ("Spend per member", "$3.00", "$21.00 in all, service keys left out")
    assert tokens == ("Tokens per member", "500", "3,500 in all, service keys left out")
    assert averages(usage(total), is_own=False)[1] == ("Spend per member", "–", "")


def test_leaders_are_few_and_measured_against_the_first() -> None:
    people = [Share(number, f"p{number}", Sums(charged=(20 - number) * 10**9, calls=1)) for number in range(TOP_NAMES + 4)]
    cards = leaders(usage(members=people), query=QueryDict("period=7d"), is_own=False)
    assert [card["title"] for card in cards] == ["Top members", "Top groups", "Top applications"]
    rows = cards[0]["rows"]
    assert [row["percent"] for row in rows] == [100, 95, 90, 85, 80, 75]
    assert rows[1]["url"] == "?period=7d&member=1"
    assert cards[1]["rows"] == []
    assert cards[1]["nobody"] == "No call was made in a group further down."


def test_where_nobody_spent_nobody_is_ahead() -> None:
    people = [Share(1, "a", Sums(calls=2)), Share(2, "b", Sums(calls=1))]
    assert [row["percent"] for row in leaders(usage(members=people), query=QueryDict(), is_own=False)[0]["rows"]] == [0, 0]


def test_ones_own_page_compares_applications_and_models_only() -> None:
    models = [Share("m", "m", Sums(charged=5)), Share("", "", Sums(charged=4))]
    cards = leaders(usage(models=models), query=QueryDict(), is_own=True)
    assert [card["title"] for card in cards] == ["Top applications", "Top models"]
    assert [row["name"] for row in cards[1]["rows"]] == ["m"]  # calls for models that do not exist are nobody's leader


@pytest.mark.parametrize("chosen", ["m", "gone"])
def test_what_the_address_asks_for_stays_chosen_even_where_it_is_not_offered(chosen: str) -> None:
    found = overview_filters(
        QueryDict(f"model={chosen}"),
        period=PERIOD,
        filters=Filters(model=chosen),
        usage=usage(models=[Share("m", "m", Sums(calls=1))]),
        groups=[],
        is_own=True,
    )
    (select,) = found["selects"]
    assert select["value"] == chosen
    assert [option["value"] for option in select["options"]] == ["", *dict.fromkeys(["m", chosen])]
    assert found["narrowed"]
