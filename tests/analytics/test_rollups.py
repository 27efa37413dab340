"""Rollups equal the ledger, whatever commits when; and reading misses and repeats nothing."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.models import RollupWatermark, UsageRollup
from analytics.rollups import DIMENSIONS, MEASURES, USAGE_SQL, LedgerBehind, rebuild_rollups, roll_up_usage
from tests.actors import World, make_world
from tests.billing.rows import other_connection
from tests.examples import some
from tests.ledger_rows import a_call, call_row, insert_calls, refused_row

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LEDGER = f"SELECT {', '.join(MEASURES)} FROM {USAGE_SQL} AS usage"  # noqa: S608


def rolled(world: World) -> list[UsageRollup]:
    return list(UsageRollup.objects.filter(organization_id=world.acme.pk).order_by("hour", "pk"))


def roll_up_everything() -> None:
    """Waits for other sessions of the cluster, which bound the watermark."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        (beyond,) = cursor.fetchone()
    for _ in range(200):
        roll_up_usage()
        if RollupWatermark.objects.get().transaction_id >= beyond:
            return
        time.sleep(0.1)
    raise AssertionError("a transaction of another session stayed open for 20 seconds")


def read(world: World) -> Counter[str]:
    """Sums of every measure, as a page would read them now."""
    parameters: dict[str, Any] = {
        "organization_id": world.acme.pk,
        "since": NOON - timedelta(days=9),
        "until": NOON + timedelta(days=9),
    }
    with connection.cursor() as cursor:
        cursor.execute(LEDGER, parameters)
        return Counter(
            {name: sum(row[index] for row in rows) for rows in [cursor.fetchall()] for index, name in enumerate(MEASURES)}
        )


def test_calls_that_agree_in_everything_are_one_row(committed_db: None) -> None:
    world = make_world()
    for minute in (1, 30, 59):
        a_call(world.key, at=NOON + timedelta(minutes=minute))
    a_call(world.key, at=NOON + timedelta(minutes=60))
    roll_up_everything()
    first, second = rolled(world)
    assert (first.hour, first.calls, first.input_tokens, first.output_tokens) == (NOON, 3, 3000, 1500)
    assert (first.charged_nano_usd, first.latency_ms_sum) == (3 * 3_000_000, 3600)
    assert (second.hour, second.calls) == (NOON + timedelta(hours=1), 1)
    assert (first.group0_id, first.group3_id, first.group4_id, first.member_id, first.api_key_id) == (
        world.root.pk,
        world.gateway.pk,
        None,
        world.mia.pk,
        world.key.pk,
    )


def test_more_calls_of_the_hour_are_added(committed_db: None) -> None:
    world = make_world()
    for count in (1, 2):
        a_call(world.key, at=NOON)
        roll_up_everything()
        assert [row.calls for row in rolled(world)] == [count]


def test_every_dimension_sets_calls_apart(committed_db: None) -> None:
    world = make_world()
    differences: list[dict[str, Any]] = [
        {},
        {"feature": "chat"},
        {"environment": "staging"},
        {"requested_model": "other"},
        {"provider": "other"},
        {"status": "cancelled"},
        {"application_id": world.assistant.pk},
        {"member_id": None},
        {"group3_id": None},
    ]
    insert_calls(*(call_row(world.key, at=NOON, **difference) for difference in differences))
    roll_up_everything()
    assert len(rolled(world)) == len(differences)


def test_refusals_gathered_in_one_row_all_count_and_adjustments_do_not(committed_db: None) -> None:
    world = make_world()
    insert_calls(
        refused_row(world.key, at=NOON, call_count=40),
        call_row(world.key, at=NOON, status="adjustment", input_tokens=0, output_tokens=0, charged_nano_usd=-5),
    )
    roll_up_everything()
    assert {(row.status, row.calls, row.charged_nano_usd) for row in rolled(world)} == {("refused", 40, 0), ("adjustment", 0, -5)}


def test_made_up_names_of_models_are_one_row(committed_db: None) -> None:
    world = make_world()
    insert_calls(*(refused_row(world.key, at=NOON, requested_model=f"typo-{n}", error_code="model_not_found") for n in range(5)))
    roll_up_everything()
    assert [(row.model, row.calls) for row in rolled(world)] == [("", 5)]


def test_a_late_commit_is_neither_lost_nor_counted_twice(committed_db: None) -> None:
    world = make_world()
    with other_connection() as late:
        insert_calls(call_row(world.key, at=NOON), into=late)
        a_call(world.key, at=NOON)
        roll_up_usage()
        assert read(world)["calls"] == 1
        late.commit()
        assert read(world)["calls"] == 2
    roll_up_everything()
    roll_up_everything()
    assert sum(row.calls for row in rolled(world)) == 2
    assert read(world)["calls"] == 2


def test_a_call_rolled_back_never_counts(committed_db: None) -> None:
    world = make_world()
    with other_connection() as undone:
        insert_calls(call_row(world.key, at=NOON), into=undone)
        roll_up_usage()
        undone.rollback()
    roll_up_everything()
    assert rolled(world) == []


def test_many_at_once_count_each_call_once(committed_db: None) -> None:
    world = make_world()

    def write_and_roll_up(number: int) -> None:
        try:
            for _ in range(5):
                a_call(world.key, at=NOON + timedelta(minutes=number))
                roll_up_usage()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write_and_roll_up, range(6)))
    assert read(world)["calls"] == 30
    roll_up_everything()
    assert sum(row.calls for row in rolled(world)) == 30


@settings(max_examples=some(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10**15), st.booleans()), max_size=12))
def test_what_is_read_is_the_ledgers_sum_at_every_moment(committed_db: None, steps: list[tuple[int, int, bool]]) -> None:
    world = make_world()
    charged = 0
    for number, (minutes, amount, roll) in enumerate(steps, 1):
        a_call(world.key, at=NOON + timedelta(minutes=minutes), charged_nano_usd=amount)
        charged += amount
        if roll:
            roll_up_usage()
        found = read(world)
        assert (found["calls"], found["charged_nano_usd"]) == (number, charged)


@pytest.mark.parametrize(
    ("zone", "minute", "slot"),
    [("Europe/Berlin", 59, 0), ("Asia/Kolkata", 44, 30), ("Asia/Kathmandu", 59, 45), ("America/St_Johns", 14, 0), ("UTC", 31, 0)],
)
def test_slots_fit_the_local_clock(committed_db: None, zone: str, minute: int, slot: int) -> None:
    world = make_world()
    world.acme.time_zone = zone
    world.acme.save()
    a_call(world.key, at=NOON + timedelta(minutes=minute))
    roll_up_everything()
    assert [row.hour for row in rolled(world)] == [NOON + timedelta(minutes=slot)]


def test_rebuilding_gives_the_same(committed_db: None) -> None:
    world = make_world()
    for minutes in (0, 50, 70):
        a_call(world.key, at=NOON + timedelta(minutes=minutes))
    roll_up_everything()
    fields = ("hour", *DIMENSIONS, *MEASURES)
    before = set(UsageRollup.objects.filter(organization_id=world.acme.pk).values_list(*fields))
    rebuild_rollups()
    roll_up_everything()
    assert set(UsageRollup.objects.filter(organization_id=world.acme.pk).values_list(*fields)) == before


def test_a_ledger_moved_to_another_cluster_is_noticed(db: None) -> None:
    RollupWatermark.objects.update(transaction_id=2**60)
    with pytest.raises(LedgerBehind, match="this cluster has only reached"):
        roll_up_usage()
