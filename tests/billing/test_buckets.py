"""Spend by subject: every row exactly once, whoever closes, whenever it commits."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections

from billing import buckets, partitions, tasks
from billing.buckets import Spend, close_spend_buckets, spend_parameters, spend_sums, spent_since, sums_from_rows
from billing.models import SpendBucket, SpendWatermark
from gateway_project.lib import database
from tests.billing import rows

QUARTER = timedelta(minutes=15)


def bucket_sums(organization_id: int) -> dict[str, Spend]:
    found: dict[str, Spend] = {}
    for bucket in SpendBucket.objects.filter(organization_id=organization_id):
        so_far = found.get(bucket.subject, Spend())
        found[bucket.subject] = so_far.plus(Spend(bucket.charged_nano_usd, bucket.list_nano_usd, bucket.own_nano_usd))
    return found


def this_quarter() -> datetime:
    now = datetime.now(UTC)
    return now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)


def test_a_row_counts_for_every_subject_of_its_path(committed_db: None) -> None:
    acme = rows.new_organization().id
    rows.insert(
        acme,
        charged=70,
        group1_id=9_000_011,
        group2_id=9_000_012,
        member_id=9_000_021,
        api_key_id=9_000_031,
        application_id=9_000_041,
    )
    rows.insert(acme, charged=30, group1_id=9_000_011, api_key_id=9_000_032)
    rows.close_everything()
    assert bucket_sums(acme) == {
        "org": Spend(100, 100),
        "pool": Spend(100, 0),
        "g9000011": Spend(100, 100),
        "g9000012": Spend(70, 70),
        "m9000021": Spend(70, 70),
        "k9000031": Spend(70, 70),
        "k9000032": Spend(30, 30),
        "a9000041": Spend(70, 70),
    }


def test_list_cost_never_reaches_the_pool(committed_db: None) -> None:
    acme = rows.new_organization().id
    rows.insert(acme, charged=0, list=500)
    rows.close_everything()
    assert bucket_sums(acme) == {"org": Spend(0, 500), "k9000001": Spend(0, 500)}


def test_what_own_provider_keys_cost_is_summed_apart_in_buckets_and_before(committed_db: None) -> None:
    acme = rows.new_organization().id
    yesterday = this_quarter() - timedelta(days=1)
    rows.insert(acme, charged=0, list=500, byok=True, member_id=9_000_021, recorded_at=yesterday)
    rows.insert(acme, charged=70, list=80, member_id=9_000_021)
    before_closing = spend_sums(acme, subjects=["org", "pool"], starts=[this_quarter()])
    rows.close_everything()
    assert bucket_sums(acme)["m9000021"] == Spend(70, 580, 500)
    assert bucket_sums(acme)["pool"] == Spend(70, 0)

    found = spend_sums(acme, subjects=["org", "pool"], starts=[this_quarter()])
    assert found.lifetime == {"org": Spend(70, 580, 500), "pool": Spend(70)} == before_closing.lifetime
    assert found.before["org", this_quarter()] == Spend(0, 500, 500) == before_closing.before["org", this_quarter()]
    # A second row of the same quarter is added to the bucket there is.
    rows.insert(acme, charged=0, list=5, byok=True, recorded_at=yesterday)
    rows.close_everything()
    assert bucket_sums(acme)["org"] == Spend(70, 585, 505)


def test_rows_that_cost_nothing_make_no_bucket(committed_db: None) -> None:
    acme = rows.new_organization().id
    rows.insert(acme, status="refused")
    rows.close_everything()
    assert bucket_sums(acme) == {}


def test_buckets_are_quarters_of_an_hour_of_the_recording_and_count_calls(committed_db: None) -> None:
    acme = rows.new_organization().id
    quarter = this_quarter()
    rows.insert(acme, charged=1, recorded_at=quarter)
    rows.insert(acme, charged=2, recorded_at=quarter + QUARTER - timedelta(microseconds=1))
    rows.insert(acme, charged=4, recorded_at=quarter - timedelta(microseconds=1))
    rows.insert(acme, charged=-1, recorded_at=quarter, status="adjustment")
    rows.close_everything()
    found = SpendBucket.objects.filter(organization_id=acme, subject="org").order_by("starts_at")
    assert [(bucket.starts_at, bucket.charged_nano_usd, bucket.calls) for bucket in found] == [
        (quarter - QUARTER, 4, 1),
        (quarter, 2, 2),
    ]


def test_closing_again_counts_nothing_twice(committed_db: None) -> None:
    acme = rows.new_organization().id
    rows.insert(acme, charged=5)
    rows.close_everything()
    rows.close_everything()
    rows.insert(acme, charged=7)
    rows.close_everything()
    assert bucket_sums(acme)["org"] == Spend(12, 12)


def test_a_row_that_commits_late_is_counted_once_and_later(committed_db: None) -> None:
    acme = rows.new_organization().id
    with rows.other_connection() as slow:
        rows.insert(acme, into=slow, charged=100)
        rows.insert(acme, charged=5)
        close_spend_buckets()
        # The early transaction is still open: nothing at or above it may be closed yet.
        assert bucket_sums(acme) == {}
        assert spend_sums(acme, subjects=["org"]).lifetime == {"org": Spend(5, 5)}
        slow.commit()
    assert spend_sums(acme, subjects=["org"]).lifetime == {"org": Spend(105, 105)}
    rows.close_everything()
    rows.close_everything()
    assert bucket_sums(acme)["org"] == Spend(105, 105)
    assert spend_sums(acme, subjects=["org"]).lifetime == {"org": Spend(105, 105)}


def test_a_close_that_is_rolled_back_leaves_everything_for_the_next(committed_db: None) -> None:
    acme = rows.new_organization().id
    rows.insert(acme, charged=5)
    with rows.other_connection() as crashing:
        crashing.execute("SELECT FROM billing_spendwatermark WHERE id = 1 FOR UPDATE")
        crashing.execute(buckets._CLOSE_SQL.encode())
        crashing.rollback()
    assert bucket_sums(acme) == {}
    rows.close_everything()
    assert bucket_sums(acme)["org"] == Spend(5, 5)


def test_many_who_close_while_rows_arrive_count_each_row_once(committed_db: None) -> None:
    acme = rows.new_organization().id

    def write() -> None:
        with rows.other_connection() as writer:
            for _ in range(40):
                rows.insert(acme, into=writer, charged=1)
                writer.commit()

    def close() -> None:
        for _ in range(15):
            close_spend_buckets()
        connections.close_all()

    threads = [threading.Thread(target=work) for work in (write, write, close, close, close)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert spend_sums(acme, subjects=["org"]).lifetime["org"].charged <= 80
    for thread in threads:
        thread.join()
    assert spend_sums(acme, subjects=["org"]).lifetime["org"] == Spend(80, 80)
    rows.close_everything()
    assert bucket_sums(acme)["org"] == Spend(80, 80)


def test_sums_before_a_start_join_buckets_and_rows_not_yet_in_them(committed_db: None) -> None:
    acme = rows.new_organization().id
    quarter = this_quarter()
    yesterday = quarter - timedelta(days=1)
    rows.insert(acme, charged=1, recorded_at=yesterday - QUARTER)
    rows.insert(acme, charged=2, recorded_at=yesterday)
    rows.close_everything()
    rows.insert(acme, charged=4, recorded_at=yesterday - timedelta(microseconds=1))
    rows.insert(acme, charged=8, recorded_at=quarter)
    found = spend_sums(acme, subjects=["org", "k9000001", "g9000009"], starts=[quarter, yesterday])
    assert found.lifetime == {"org": Spend(15, 15), "k9000001": Spend(15, 15), "g9000009": Spend()}
    assert found.before["org", yesterday] == Spend(5, 5)
    assert found.before["org", quarter] == Spend(7, 7)
    assert found.before["g9000009", quarter] == Spend()


def test_windows_count_what_all_sums_say_lies_in_them(committed_db: None) -> None:
    """Each by itself and all at once; what calls on own provider keys cost by the list is told apart."""
    acme, other = rows.new_organization().id, rows.new_organization().id
    quarter = this_quarter()
    starts = [quarter, quarter - timedelta(days=1), quarter - timedelta(days=30)]
    moments = [start + timedelta(microseconds=late) for start in starts for late in (-1, 0, 1)]
    for number, at in enumerate(moments):
        rows.insert(acme, charged=1 << number, recorded_at=at)
        rows.insert(acme, charged=0, list=1 << number, byok=True, recorded_at=at, api_key_id=9_000_009)
        rows.insert(other, charged=1 << 20, recorded_at=at)
        if number == 4:
            rows.close_everything()
    subjects = ["org", "pool", "k9000001", "k9000009", "g9000009"]
    sums = spend_sums(acme, subjects=subjects, starts=starts)
    windows = [(subject, start) for subject in subjects for start in (None, *starts)]
    expected = {
        (subject, start): sums.lifetime[subject].minus(sums.before[subject, start]) if start else sums.lifetime[subject]
        for subject, start in windows
    }
    for asked in (windows, windows[:1], windows[1:2], windows[5:8], [window for window in windows if window[1]]):
        found = spent_since(acme, asked)
        assert list(found) == asked
        for window, spend in found.items():
            assert (spend.charged, spend.own) == (expected[window].charged, expected[window].own)
            assert spend.counted(byok=True) == expected[window].counted(byok=True)
    assert spent_since(acme, [("k9000009", starts[1])])["k9000009", starts[1]].own == sum(1 << n for n in (0, 1, 2, 4, 5))
    assert spent_since(acme, [("org", None)])["org", None] != Spend()
    with pytest.raises(ValueError, match="quarter of an hour"):
        spent_since(acme, [("org", quarter + timedelta(seconds=1))])


def test_sums_carry_the_snapshot_they_were_made_in(committed_db: None) -> None:
    acme = rows.new_organization().id
    with rows.other_connection() as slow:
        rows.insert(acme, into=slow, charged=100)
        number = slow.execute("SELECT pg_current_xact_id()::text").fetchone()
        assert number is not None
        unseen = spend_sums(acme, subjects=["org"])
        slow.commit()
    seen = spend_sums(acme, subjects=["org"])
    assert (unseen.lifetime["org"].charged, seen.lifetime["org"].charged) == (0, 100)
    with connection.cursor() as cursor:
        visible = "SELECT pg_visible_in_snapshot(%s::xid8, %s::pg_snapshot), pg_visible_in_snapshot(%s::xid8, %s::pg_snapshot)"
        cursor.execute(visible, [number[0], unseen.snapshot, number[0], seen.snapshot])
        assert cursor.fetchone() == (False, True)


def test_the_statement_serves_coroutines_too(committed_db: None) -> None:
    acme = rows.new_organization().id
    rows.insert(acme, charged=9)
    parameters = spend_parameters(acme, subjects=["org"], starts=[this_quarter()])

    async def read() -> list[dict[str, Any]]:
        try:
            return await database.rows(buckets.SPEND_SQL, parameters)
        finally:
            await (await database.pool()).close()

    assert sums_from_rows(asyncio.run(read()), starts=parameters["starts"]).lifetime == {"org": Spend(9, 9)}


def test_another_organisations_rows_never_count(committed_db: None) -> None:
    acme, other = rows.new_organization().id, rows.new_organization().id
    rows.insert(acme, charged=1, member_id=9_000_005)
    rows.insert(other, charged=2, member_id=9_000_005)
    assert spend_sums(acme, subjects=["m9000005"]).lifetime == {"m9000005": Spend(1, 1)}
    rows.close_everything()
    assert spend_sums(other, subjects=["m9000005"]).lifetime == {"m9000005": Spend(2, 2)}


def test_a_start_within_a_quarter_of_an_hour_is_refused() -> None:
    with pytest.raises(ValueError, match="quarter of an hour"):
        spend_parameters(1, subjects=["org"], starts=[datetime(2026, 11, 20, 12, 7, tzinfo=UTC)])


@pytest.mark.django_db
def test_a_ledger_from_a_cluster_that_was_further_is_reported() -> None:
    SpendWatermark.objects.filter(id=1).update(transaction_id=2**60)
    with pytest.raises(buckets.LedgerBehind, match="this cluster has only reached"):
        close_spend_buckets()


def test_the_task_closes_the_buckets(committed_db: None) -> None:
    acme = rows.new_organization().id
    rows.insert(acme, charged=3)
    rows.close_everything(tasks.close_spend_buckets)
    assert bucket_sums(acme)["org"] == Spend(3, 3)


@pytest.mark.django_db
def test_partitions_are_made_from_last_month_to_the_month_after_next() -> None:
    for _ in range(2):
        partitions.ensure_partitions(around=datetime(2031, 1, 15, tzinfo=UTC))
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname ~ 'usagerecord_203[01]_..$' ORDER BY relname")
        names = [name for (name,) in cursor.fetchall()]
    assert names == [f"billing_usagerecord_{month}" for month in ("2030_12", "2031_01", "2031_02", "2031_03")]


@pytest.mark.django_db
def test_the_task_keeps_partitions_ahead_of_the_ledger() -> None:
    tasks.create_partitions()
    later = datetime.now(UTC) + timedelta(days=32)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [f"billing_callattempt_{later:%Y_%m}"])
        assert cursor.fetchone() != (None,)
