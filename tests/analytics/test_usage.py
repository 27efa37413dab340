"""Sums of usage against the same sums made by hand: whatever zone, scope and period, to the last nano-dollar."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from analytics.filters import Filters, Period, Scope, period_named
from analytics.rollups import rebuild_rollups, roll_up_usage
from analytics.usage import OTHERS, TOP_MODELS, Share, Sums, Usage, spend_chart, usage_of
from billing.ledger import Row
from orgs.models import Group
from orgs.services.organizations import change_settings
from tests.actors import World, make_world
from tests.ledger_rows import a_call, call_row, insert_calls, refused_row

NOW = datetime(2026, 11, 20, 16, 25, tzinfo=UTC)
# Clocks go back on 1 November in North America, on 25 October in Europe; India and Nepal lie between the hours.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia")
EVERYTHING = Filters()


def in_zone(world: World, zone: str) -> World:
    change_settings(world.acme, by=world.actor("alice"), time_zone=zone)
    return world


def used(world: World, name: str = "alice", *, period: Period, filters: Filters = EVERYTHING, level: int = 1) -> Usage:
    return usage_of(Scope.of(world.actor(name)), period=period, filters=filters, level=level)


def over(zone: str, name: str = "30d", *, now: datetime = NOW) -> Period:
    return period_named(name, now=now, calendar=zone)


def by_day(usage: Usage, period: Period) -> dict[str, int]:
    return {label: sums.charged for label, sums in zip(period.labels, usage.by_slot, strict=True) if sums.calls}


# --- days --------------------------------------------------------------------------------------
@pytest.mark.parametrize("zone", ZONES)
def test_a_call_counts_for_the_local_day_it_was_recorded_in(world: World, zone: str) -> None:
    """One call at each quarter of an hour around three local midnights, a change of clocks among them."""
    local, expected = ZoneInfo(zone), Counter[str]()
    moments = [
        datetime(2026, month, day, hour, minute, tzinfo=UTC)
        for month, day in ((10, 25), (11, 1), (11, 19))
        for hour in range(24)
        for minute in (0, 14, 15, 29, 30, 44, 45, 59)
    ]
    insert_calls(*(call_row(world.key, at=at, charged_nano_usd=number) for number, at in enumerate(moments, 1)))
    for number, at in enumerate(moments, 1):
        day = at.astimezone(local).date()
        if day >= NOW.astimezone(local).date() - timedelta(days=29):
            expected[f"{day:%b} {day.day}"] += number
    period = over(zone)
    usage = used(in_zone(world, zone), period=period)
    assert by_day(usage, period) == dict(expected)
    assert usage.total.charged == expected.total()


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns", "Europe/Berlin"])
def test_days_are_the_same_once_they_are_rolled_up(committed_db: None, zone: str) -> None:
    world = in_zone(make_world(), zone)
    at = datetime(2026, 11, 18, tzinfo=UTC)
    insert_calls(
        *(call_row(world.key, at=at + timedelta(minutes=15 * number), charged_nano_usd=number + 1) for number in range(96))
    )
    period = over(zone)
    before = used(world, period=period)
    roll_up_usage()
    assert used(world, period=period) == before
    rebuild_rollups()
    assert used(world, period=period) == before
    assert before.total.charged == sum(range(1, 97))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
    ],
)
def test_the_day_of_a_change_of_clocks_is_as_long_as_it_is(zone: str, day: date, hours: float) -> None:
    now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(days=3)
    slots = over(zone, "7d", now=now).slots
    lengths = {
        slot.astimezone(ZoneInfo(zone)).date(): (after - slot) / timedelta(hours=1) for slot, after in itertools.pairwise(slots)
    }
    assert lengths[day] == hours
    assert set(lengths.values()) == {24.0, hours}


def test_hours_of_a_day_are_told_apart(world: World) -> None:
    for back in (0, 1, 1, 23, 24.1, 24.5):
        a_call(world.key, at=NOW - timedelta(hours=back))
    period = over("UTC", "24h")
    usage = used(world, period=period)
    assert [sums.calls for sums in usage.by_slot] == [1, *[0] * 21, 2, 1]
    assert (usage.total.calls, usage.before.calls) == (4, 1)


def test_the_period_before_ends_where_this_one_has_come_to(world: World) -> None:
    """The same part of a day is compared with the same part, so mornings do not look like a collapse."""
    period = over("UTC", "7d")
    a_call(world.key, at=period.before_ends_at - timedelta(seconds=1))
    a_call(world.key, at=period.before_ends_at + timedelta(seconds=1))
    a_call(world.key, at=period.before_starts_at - timedelta(seconds=1))
    assert used(world, period=period).before.calls == 1
    assert used(world, period=period).total.calls == 0


@pytest.mark.parametrize(("zone", "name"), [("UTC", "24h"), ("Europe/Berlin", "month"), ("Asia/Kathmandu", "7d")])
def test_the_period_before_is_the_same_once_it_is_rolled_up(committed_db: None, zone: str, name: str) -> None:
    """Rollups know no minutes: a period before that ended within an hour would grow by the rest of it."""
    world = in_zone(make_world(), zone)
    for minute in (5, 29, 30, 55):
        period = over(zone, name, now=NOW.replace(minute=minute))
        border = period.before_ends_at
        insert_calls(*(call_row(world.key, at=border + timedelta(minutes=by), charged_nano_usd=1) for by in (-61, -1, 0, 14, 31)))
        before = used(world, period=period).before
        roll_up_usage()
        assert used(world, period=period).before == before, minute
        assert before.calls


def test_the_first_minutes_of_a_month_are_compared_with_nothing() -> None:
    first = datetime(2026, 11, 1, tzinfo=UTC)
    for minutes, hours in ((0, 0), (29, 0), (31, 1), (89, 1), (91, 2)):
        period = over("UTC", "month", now=first + timedelta(minutes=minutes))
        assert period.before_ends_at - period.before_starts_at == timedelta(hours=hours), minutes


# --- whose -------------------------------------------------------------------------------------
def rows_everywhere(world: World, chance: random.Random, count: int) -> list[Row]:
    paths = [group.path() for group in (world.root, world.engineering, world.platform, world.gateway, world.sales, world.field)]
    people = [world.alice.pk, world.lena.pk, world.sam.pk, world.mia.pk, world.noah.pk, None]
    rows = []
    for _ in range(count):
        path: list[Group] = chance.choice(paths)
        levels = {f"group{level}_id": path[level].pk if level < len(path) else None for level in range(5)}
        make: Callable[..., Row] = refused_row if chance.random() < 0.2 else call_row
        row = make(
            world.key, at=NOW - timedelta(minutes=chance.randrange(60 * 24 * 25)), **levels, member_id=chance.choice(people)
        )
        row.requested_model = chance.choice(["small", "large"])
        row.charged_nano_usd = 0 if row.status == "refused" else chance.randrange(10**12)
        row.status = row.status if row.status == "refused" else chance.choice(["ok", "failed", "cut", "cancelled", "abandoned"])
        rows.append(row)
    return rows


def sums_of(rows: list[Row]) -> Sums:
    return Sums(
        charged=sum(row.charged_nano_usd for row in rows),
        calls=len(rows),
        tokens=sum(row.input_tokens + row.output_tokens for row in rows),
        errors=sum(row.status in ("failed", "cut", "abandoned") for row in rows),
        refused=sum(row.status == "refused" for row in rows),
    )


def seen_by(world: World, name: str, rows: list[Row]) -> list[Row]:
    node = {"lena": world.engineering.pk, "sam": world.platform.pk}.get(name)
    if name == "alice":
        return rows
    me = getattr(world, name).pk
    paths = [(row, (row.group1_id, row.group2_id, row.group3_id, row.group4_id)) for row in rows]
    return [row for row, path in paths if row.member_id == me or (node is not None and node in path)]


def test_each_person_sees_the_exact_sums_of_its_part_and_every_breakdown_adds_up(committed_db: None) -> None:
    world = make_world()
    rows = rows_everywhere(world, random.Random(7), 150)  # noqa: S311 - the same rows every time
    insert_calls(*rows[:100])
    roll_up_usage()
    insert_calls(*rows[100:])
    period = over("UTC")
    for name in ("alice", "lena", "sam", "mia", "noah"):
        usage, mine = used(world, name, period=period), seen_by(world, name, rows)
        assert usage.total == sums_of(mine), name
        assert sum(sums.charged for sums in usage.by_slot) == usage.total.charged
        assert {share.id: share.sums for share in usage.models} == {
            model: sums_of(part)
            for model in ("small", "large")
            if (part := [row for row in mine if row.requested_model == model])
        }
        people = {row.member_id for row in mine if row.member_id}
        assert {share.id: share.sums for share in usage.members} == {
            person: sums_of([row for row in mine if row.member_id == person]) for person in people
        }
        groups = {row.group1_id for row in mine if row.group1_id}
        assert {share.id: share.sums for share in usage.groups} == {
            group: sums_of([row for row in mine if row.group1_id == group]) for group in groups
        }


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_groups_can_be_compared_at_every_level(world: World, level: int) -> None:
    rows = rows_everywhere(world, random.Random(level), 60)  # noqa: S311
    insert_calls(*rows)
    expected: Counter[int] = Counter()
    for row in rows:
        if group := getattr(row, f"group{level}_id"):
            expected[group] += row.charged_nano_usd
    groups = used(world, period=over("UTC"), level=level).groups
    assert {share.id: share.sums.charged for share in groups} == dict(expected)
    assert [share.sums.charged for share in groups] == sorted((share.sums.charged for share in groups), reverse=True)


@pytest.mark.parametrize("name", ["group", "member", "model", "status"])
def test_a_filter_is_the_part_of_the_whole_that_it_says(world: World, name: str) -> None:
    rows = rows_everywhere(world, random.Random(3), 80)  # noqa: S311
    insert_calls(*rows)
    value: Any = {"group": world.platform.pk, "member": world.mia.pk, "model": "large", "status": "cut"}[name]
    meant: dict[str, Callable[[Row], bool]] = {
        "group": lambda row: value in (row.group0_id, row.group1_id, row.group2_id, row.group3_id, row.group4_id),
        "member": lambda row: row.member_id == value,
        "model": lambda row: row.requested_model == value,
        "status": lambda row: row.status == value,
    }
    found = used(world, period=over("UTC"), filters=EVERYTHING._replace(**{name: value}))
    assert found.total == sums_of([row for row in rows if meant[name](row)])
    assert found.total.calls > 0


def test_two_organisations_never_meet(world: World) -> None:
    a_call(world.key, at=NOW)
    assert used(world, "charlie", period=over("UTC")).total == Sums()
    assert used(world, period=over("UTC")).total.calls == 1


def test_an_organisation_without_calls_has_empty_sums_of_the_right_length(world: World) -> None:
    period = over("UTC")
    usage = used(world, period=period)
    assert (usage.total, usage.before, usage.by_slot) == (Sums(), Sums(), [Sums()] * 30)
    assert usage.models == usage.members == usage.groups == usage.applications == []
    assert spend_chart(usage, period=period)["series"] == []


def test_sums_beyond_32_bits_stay_exact(world: World) -> None:
    dear = 3 * 10**15 + 1  # three million dollars a call
    insert_calls(*(call_row(world.key, at=NOW, charged_nano_usd=dear, input_tokens=2**31 - 1) for _ in range(5)))
    total = used(world, period=over("UTC")).total
    assert (total.charged, total.tokens) == (5 * dear, 5 * (2**31 - 1 + 500))


def test_one_without_a_name_is_shown_by_its_address(world: World) -> None:
    world.mia.name = ""
    world.mia.save()
    a_call(world.key, at=NOW)
    assert [share.name for share in used(world, period=over("UTC")).members] == [world.mia.email]


# --- the chart ---------------------------------------------------------------------------------
def test_the_dearest_models_are_drawn_and_the_rest_is_one_series(world: World) -> None:
    count = TOP_MODELS + 4
    for number in range(1, count + 1):
        a_call(world.key, at=NOW - timedelta(days=number % 3), requested_model=f"m{number:02}", charged_nano_usd=number * 10**9)
    period = over("UTC", "7d")
    usage = used(world, period=period)
    series = spend_chart(usage, period=period)["series"]
    assert [entry["name"] for entry in series] == [*(f"m{number:02}" for number in range(count, count - TOP_MODELS, -1)), OTHERS]
    assert sum(series[-1]["values"]) == (1 + 2 + 3 + 4) * 10**9
    drawn = [sum(column) for column in zip(*(entry["values"] for entry in series), strict=True)]
    assert drawn == [sums.charged for sums in usage.by_slot]


def test_models_that_cost_nothing_are_counted_but_not_drawn(world: World) -> None:
    a_call(world.key, at=NOW, requested_model="free", charged_nano_usd=0)
    period = over("UTC", "7d")
    usage = used(world, period=period)
    assert usage.models == [Share("free", "free", usage.total)]
    assert spend_chart(usage, period=period)["series"] == []
