"""The ledger's writing end: durable before it returns, once per call, and never in the way of others."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import django.db
import pytest
from django.db import connection, transaction
from pytest_django import Settings

from billing import adjusting, ledger, partitions, replaying, spool, writers
from billing.ledger import AlreadyRecorded, Attempt, Fenced, LedgerUnavailable, Recorded, Row, RowRefused, Spooled
from billing.models import CallAttempt, UsageRecord
from gateway_project.lib import ids
from tests.billing import rows
from tests.coroutines import with_lease
from tests.wire import Mode, wired


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return with_lease(work)


@cache
def organization() -> int:
    """What is charged here ends in the buckets of somebody who exists."""
    return int(rows.new_organization().pk)


@pytest.fixture(autouse=True)
def made_before_coroutines_need_it(committed_db: None, settings: Settings, tmp_path: Path) -> None:
    """The spool of these tests is their own."""
    organization()
    settings.SPOOL_FOLDER = tmp_path / "spool"


@pytest.fixture
def no_spool(settings: Settings, tmp_path: Path) -> None:
    """A folder that cannot be made."""
    (tmp_path / "a file").touch()
    settings.SPOOL_FOLDER = tmp_path / "a file" / "spool"


def row(**fields: Any) -> Row:
    call_id = fields.pop("call_id", None) or ids.new_call_id()
    values = {
        "organization_id": organization(),
        "group0_id": 1,
        "api_key_id": 9_000_001,
        "protocol": "chat_completions",
        **fields,
    }
    return Row(call_id=call_id, admitted_at=ids.time_of(call_id), **{"status": "ok", "http_status": 200, **values})


def attempt(of: Row, number: int = 1) -> Attempt:
    return Attempt(of.call_id, number, 5, "openai", "gpt", "ok", 200, "", 12, provider_nano_usd=7)


def stored(one: Row) -> UsageRecord | None:
    return UsageRecord.objects.filter(call_id=one.call_id).first()


async def outcome(of: Row) -> Recorded | Spooled | Exception:
    try:
        return await ledger.current().record(of, [])
    except (LedgerUnavailable, AlreadyRecorded) as error:
        return error


def test_a_row_is_stored_as_it_was_given_with_the_transaction_that_did_it() -> None:
    one = row(
        charged_nano_usd=9_100_000_000_000_001,
        list_nano_usd=3,
        input_tokens=10,
        unit_prices={"input": 1_000},
        cost_parts={"input": 10_000},
        decision={"level": "key", "limit": 9_100_000_000_000_001},
        requested_model="Zürich \u2028 \U0001f600",
        group4_id=4,
        streamed=True,
        first_token_ms=None,
    )
    recorded = run(ledger_record(one, [attempt(one, 1), attempt(one, 2)]))

    found = stored(one)
    assert found is not None
    for name in set(Row.__struct_fields__) - {"recorded_at"}:
        assert getattr(found, name) == getattr(one, name), name
    assert (found.transaction_id, found.recorded_at) == (recorded.transaction_id, recorded.recorded_at)
    assert abs((datetime.now(UTC) - recorded.recorded_at).total_seconds()) < 10
    attempts = CallAttempt.objects.filter(call_id=one.call_id).order_by("number")
    assert [(each.number, each.provider, each.provider_nano_usd) for each in attempts] == [(1, "openai", 7), (2, "openai", 7)]


async def ledger_record(one: Row, attempts: list[Attempt]) -> Recorded:
    recorded = await ledger.current().record(one, attempts)
    assert isinstance(recorded, Recorded)
    return recorded


def test_a_row_is_recorded_no_earlier_than_it_may_be_unless_a_clock_far_ahead_says_so() -> None:
    now = datetime.now(UTC)
    ahead = [timedelta(minutes=minutes) for minutes in (-60, 2, 60 * 24 * 365)]

    async def work() -> list[Recorded]:
        books = ledger.current()
        written = await asyncio.gather(*(books.record(row(recorded_at=now + by), []) for by in ahead))
        return [one for one in written if isinstance(one, Recorded)]

    early, later, far = (recorded.recorded_at - now for recorded in run(work()))
    assert later == ahead[1]
    for believed_to_be_now in (early, far):
        assert timedelta() <= believed_to_be_now < timedelta(seconds=10)


def test_a_charge_is_taken_back_no_earlier_than_it_was_recorded() -> None:
    """Else what one window charged would come back to the one before."""

    async def work() -> tuple[Recorded, Recorded]:
        one = row(recorded_at=datetime.now(UTC) + timedelta(minutes=10), charged_nano_usd=5)
        charge = await ledger_record(one, [])
        found = await adjusting.row_of(one.call_id)
        assert found is not None
        return charge, await adjusting.take_back(found)

    charge, back = run(work())
    assert (charge.charged_nano_usd, back.charged_nano_usd) == (5, -5)
    assert back.recorded_at >= charge.recorded_at


def test_calls_that_end_together_share_a_commit() -> None:
    ones = [row() for _ in range(300)]

    async def work() -> list[Recorded]:
        return await asyncio.gather(*(ledger_record(one, [attempt(one)]) for one in ones))

    recorded = run(work())

    assert len({each.transaction_id for each in recorded}) <= 3
    assert UsageRecord.objects.filter(call_id__in=[one.call_id for one in ones]).count() == 300
    assert CallAttempt.objects.filter(call_id__in=[one.call_id for one in ones]).count() == 300


def test_a_call_is_recorded_once() -> None:
    one = row(charged_nano_usd=5)
    other = row(call_id=one.call_id, charged_nano_usd=70, status="abandoned")

    async def work() -> list[Recorded | Spooled | Exception]:
        return [await outcome(one), await outcome(other)]

    first, second = run(work())

    assert isinstance(first, Recorded)
    assert isinstance(second, AlreadyRecorded)
    found = stored(one)
    assert found is not None
    assert (found.charged_nano_usd, found.status) == (5, "ok")


def test_the_same_call_twice_in_one_batch_is_recorded_once_and_others_go_through() -> None:
    one = row()
    batch = [one, row(), row(call_id=one.call_id, charged_nano_usd=1), row()]

    async def work() -> list[Recorded | Spooled | Exception]:
        return await asyncio.gather(*(outcome(each) for each in batch))

    results = run(work())

    assert sum(isinstance(result, Recorded) for result in results) >= 3
    assert UsageRecord.objects.filter(call_id__in=[each.call_id for each in batch]).count() == 3


def test_attempts_are_written_with_their_row_only() -> None:
    one = row()

    async def work() -> None:
        await ledger_record(one, [attempt(one, 1)])
        with pytest.raises(AlreadyRecorded):
            await ledger_record(one, [attempt(one, 2)])

    run(work())

    assert [each.number for each in CallAttempt.objects.filter(call_id=one.call_id)] == [1]


BAD_ROWS = {
    "a text too long for its column": lambda: row(environment="x" * 31),
    "a NUL in a text": lambda: row(served_model="a\x00b"),
    "half a character": lambda: row(served_model="a\ud800b"),
    "a number beyond bigint": lambda: row(input_tokens=1 << 63),
    "a number beyond JSON": lambda: row(input_tokens=1 << 70),
    "a status too long": lambda: row(status="unheard of in this place"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_one_bad_row_takes_no_other_down(fault: str) -> None:
    bad, good = BAD_ROWS[fault](), [row() for _ in range(5)]

    async def work() -> list[Recorded | Spooled | Exception]:
        results = await asyncio.gather(*(outcome(one) for one in [*good[:2], bad, *good[2:]]))
        after = await outcome(row())
        assert isinstance(after, Recorded)
        return results

    results = run(work())

    assert isinstance(results.pop(2), RowRefused)
    assert all(isinstance(result, Recorded) for result in results)
    assert all(stored(one) for one in good)


# --- months without a partition ----------------------------------------------------------------
def unmade_month() -> datetime:
    """Another one each time, since what is made here stays."""
    return datetime(2100 + secrets.randbelow(5000), 5, 31, 23, 59, 59, tzinfo=UTC)


def at(moment: datetime) -> UUID:
    return ids.call_id_at(moment, random_bits=secrets.randbits(74))


def has_month(moment: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [f"billing_usagerecord_{moment:%Y_%m}"])
        return bool(cursor.fetchone()[0])


def test_where_nobody_made_partitions_for_months_calls_have_their_rows_and_beat_goes_on_from_there() -> None:
    moment = unmade_month()
    ones = [row(call_id=at(moment + timedelta(seconds=seconds)), charged_nano_usd=7) for seconds in (-1, 0, 1)]
    assert not has_month(moment)

    async def work() -> None:
        books = await asyncio.gather(*(ledger_record(one, [attempt(one)]) for one in [row(), *ones]))
        assert [recorded.charged_nano_usd for recorded in books] == [0, 7, 7, 7]
        with pytest.raises(AlreadyRecorded):
            await ledger_record(ones[0], [])

    run(work())
    partitions.ensure_partitions(around=moment + timedelta(days=40))

    assert [has_month(moment + timedelta(days=days)) for days in (-31, 0, 1, 40, 70, 100, 130)] == [False, *[True] * 5, False]
    assert [stored(one) is not None for one in ones] == [True] * 3
    assert CallAttempt.objects.filter(call_id__in=[one.call_id for one in ones]).count() == 3


def test_workers_that_meet_a_month_without_a_partition_at_once_all_write() -> None:
    """As a charge in it is taken back, or a call of a dead worker closed, beside them."""
    moment = unmade_month()
    ones = [row(call_id=at(moment), charged_nano_usd=7) for _ in range(6)]

    async def work() -> None:
        found = await asyncio.gather(*(replaying.write([(one, [])]) for one in ones))
        assert [written[one.call_id].recorded.charged_nano_usd for one, written in zip(ones, found, strict=True)] == [7] * 6

    run(work())
    assert has_month(moment)


def test_where_a_month_cannot_be_made_now_the_row_is_kept_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump of the database reads every table for as long as it takes; calls are answered meanwhile, and charged after it."""
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "30ms")
    one = row(call_id=at(unmade_month()), charged_nano_usd=7)

    async def work() -> None:
        with rows.other_connection() as dump:
            dump.execute("LOCK TABLE billing_usagerecord IN ACCESS SHARE MODE")
            assert await ledger.current().record(one, []) == Spooled(7)
        written = (await replaying.write([(one, [])]))[one.call_id]
        assert written.recorded.charged_nano_usd == 7

    run(work())
    assert stored(one) is not None


@pytest.mark.parametrize("change", ["UPDATE {table} SET {column} = 1", "DELETE FROM {table}"])
@pytest.mark.parametrize(
    ("table", "column"), [("billing_usagerecord", "charged_nano_usd"), ("billing_callattempt", "latency_ms")]
)
def test_rows_are_neither_changed_nor_deleted(change: str, table: str, column: str) -> None:
    one = row(charged_nano_usd=70)
    run(ledger_record(one, [attempt(one)]))

    statement = change.format(table=table, column=column) + " WHERE call_id = %s"
    with transaction.atomic(), pytest.raises(django.db.Error, match="append-only"), connection.cursor() as cursor:
        cursor.execute(statement, [one.call_id])
    assert stored(one) is not None


def test_without_postgresql_and_spool_it_says_so_in_time_and_writes_when_either_is_back(
    settings: Settings, no_spool: None
) -> None:
    settings.LEDGER_TIMEOUT_SECONDS = 0.3
    one, later = row(charged_nano_usd=5), row()

    async def work() -> None:
        async with wired() as wire:
            wire.mode = "refused"
            began = time.monotonic()
            with pytest.raises(LedgerUnavailable):
                await ledger_record(one, [attempt(one)])
            assert 0.25 < time.monotonic() - began < 2
            done = ledger.current().record_later(later, [])

            wire.mode = "through"
            assert isinstance(await asyncio.wait_for(done, 5), Recorded)

    run(work())

    assert stored(one) is not None
    assert CallAttempt.objects.filter(call_id=one.call_id).count() == 1


def test_a_connection_that_breaks_between_two_calls_is_replaced() -> None:
    async def work() -> None:
        async with wired() as wire:
            await ledger_record(row(), [])
            wire.cut("through")
            await ledger_record(row(), [])
            assert wire.connections == 2

    run(work())


def test_a_server_that_falls_silent_is_given_up_and_asked_again(settings: Settings, no_spool: None) -> None:
    settings.LEDGER_TIMEOUT_SECONDS = 0.5
    one = row()

    async def work() -> None:
        async with wired() as wire:
            await ledger_record(row(), [])
            wire.mode = "silent"
            done = ledger.current().record_later(one, [])
            with pytest.raises(LedgerUnavailable):
                await ledger.confirmed(done)
            await asyncio.sleep(0.2)
            wire.cut("through")
            assert isinstance(await asyncio.wait_for(done, 5), Recorded)

    run(work())

    assert stored(one) is not None


@pytest.mark.parametrize("mode", ["refused", "silent"])
def test_without_postgresql_a_row_goes_to_the_disk_before_the_caller_gives_up(settings: Settings, mode: Mode) -> None:
    settings.LEDGER_TIMEOUT_SECONDS = 1
    ones = [row(charged_nano_usd=5), row(charged_nano_usd=6), row()]

    async def work() -> None:
        async with wired() as wire:
            await ledger_record(row(), [])
            books = ledger.current()
            wire.cut(mode)
            began = time.monotonic()
            assert await books.record(ones[0], [attempt(ones[0])]) == Spooled(5)
            assert time.monotonic() - began < 0.9
            assert books.away_since is not None
            began = time.monotonic()
            assert await books.record(ones[1], []) == Spooled(6)
            assert time.monotonic() - began < 0.2, "PostgreSQL is known to be away: nobody waits for it"
            assert (books.spool.rows, books.spool.is_drainable) == (2, True)

            wire.cut("through")
            assert await comes_true(lambda: books.away_since is None)
            assert isinstance(await books.record(ones[2], []), Recorded)

    run(work())

    assert [stored(one) is not None for one in ones] == [False, False, True]
    assert spool.backlog().rows == 2


async def comes_true(look: Callable[[], bool]) -> bool:
    async with asyncio.timeout(8):
        while not look():
            await asyncio.sleep(0.02)
    return True


def test_rows_that_hold_money_wait_for_a_word_on_their_answer() -> None:
    async def work() -> None:
        async with wired() as wire:
            wire.mode = "refused"
            books = ledger.current()
            one, other = row(), row()
            await asyncio.gather(*(books.record_later(each, [], subjects=("org",)) for each in (one, other)))
            assert books.spool.undecided == {one.call_id, other.call_id}
            books.spool.decide(one.call_id)
            assert not books.spool.is_drainable
            books.spool.decide(other.call_id)
            assert books.spool.is_drainable

    run(work())


def test_a_row_that_json_cannot_carry_is_refused_and_takes_no_other_down() -> None:
    good, bad = row(), row(served_model="a\ud800b")

    async def work() -> list[Recorded | Spooled | Exception]:
        async with wired() as wire:
            wire.mode = "refused"
            return list(await asyncio.gather(outcome(good), outcome(bad)))

    results = run(work())

    assert results[0] == Spooled(0)
    assert isinstance(results[1], RowRefused)


def test_a_full_spool_takes_no_more_rows(settings: Settings) -> None:
    settings.SPOOL_MAX_BYTES = 1
    settings.LEDGER_TIMEOUT_SECONDS = 1

    async def work() -> None:
        async with wired() as wire:
            wire.mode = "refused"
            books = ledger.current()
            assert await books.record(row(), []) == Spooled(0)
            with pytest.raises(LedgerUnavailable):
                books.record_later(row(), [])
            wire.mode = "through"
            assert await comes_true(lambda: books.away_since is None)
            assert isinstance(await books.record(row(), []), Recorded)

    run(work())


# --- fences ------------------------------------------------------------------------------------
def test_a_fenced_writer_writes_nothing_and_goes_on_under_a_new_name() -> None:
    before, after = row(charged_nano_usd=5), row()
    heard: list[str] = []

    async def work() -> None:
        books = await ledger.start(writer_id=f"w{before.call_id.hex[:12]}", on_renamed=heard.append)
        await ledger_record(row(), [])
        fenced = books.writer_id
        assert await writers.fence([fenced]) == [fenced]

        assert isinstance(await outcome(before), Fenced)

        assert heard == [books.writer_id]
        assert books.writer_id != fenced
        await asyncio.sleep(0.002)  # ids tell milliseconds
        fresh = row(charged_nano_usd=7)
        assert isinstance(await outcome(fresh), Recorded)
        assert isinstance(await outcome(before), Fenced), "admitted under the old name"
        before.charged_nano_usd = 0
        assert isinstance(await outcome(before), Recorded), "what is free may be told"
        assert isinstance(await outcome(after), Recorded)

    run(work())

    found = stored(before)
    assert found is not None
    assert found.charged_nano_usd == 0


def test_what_was_written_before_the_fence_and_not_answered_is_its_own() -> None:
    one = row(charged_nano_usd=5)

    async def work() -> None:
        async with wired() as wire:
            await ledger_record(row(), [])
            wire.mode = "lose the next answer"
            assert (await ledger_record(one, [])).charged_nano_usd == 5

    run(work())
    assert stored(one) is not None


def test_a_fence_waits_for_the_insert_that_runs_and_stops_the_next() -> None:
    """Another session keeps the insert waiting in the middle of its statement."""
    one, two = row(charged_nano_usd=5), row(charged_nano_usd=5)
    with rows.other_connection() as other:
        rows.insert(one.organization_id, into=other, call_id=one.call_id, status="abandoned")

        async def work() -> None:
            books = ledger.current()
            await ledger_record(row(), [])
            writing = asyncio.create_task(outcome(one))
            await asyncio.sleep(0.2)
            fencing = asyncio.create_task(writers.fence([books.writer_id]))
            await asyncio.sleep(0.3)
            assert not fencing.done()
            await asyncio.to_thread(other.rollback)
            assert isinstance(await writing, Recorded)
            assert len(await fencing) == 1
            assert isinstance(await outcome(two), Fenced)

        run(work())

    assert stored(one) is not None
    assert stored(two) is None


def test_a_row_whose_commit_was_not_answered_is_recognised_as_its_own() -> None:
    """The connection breaks between commit and answer: the second try finds the row, and it is no stranger's."""
    one = row(charged_nano_usd=5)

    async def work() -> Recorded:
        async with wired() as wire:
            await ledger_record(row(), [])
            wire.mode = "lose the next answer"
            return await ledger_record(one, [attempt(one)])

    recorded = run(work())

    found = stored(one)
    assert found is not None
    assert (found.transaction_id, found.recorded_at) == (recorded.transaction_id, recorded.recorded_at)
    assert CallAttempt.objects.filter(call_id=one.call_id).count() == 1


def test_a_call_closed_by_a_resolver_meanwhile_is_no_row_of_its_own(no_spool: None) -> None:
    one = row(charged_nano_usd=5)
    with rows.other_connection() as resolver:

        async def work() -> None:
            async with wired() as wire:
                wire.mode = "refused"
                done = ledger.current().record_later(one, [])
                await asyncio.sleep(0.1)
                rows.insert(one.organization_id, into=resolver, call_id=one.call_id, status="abandoned")
                resolver.commit()
                wire.mode = "through"
                with pytest.raises(AlreadyRecorded):
                    await asyncio.wait_for(done, 5)

        run(work())


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_two_who_write_the_same_call_at_once_do_not_both_win(ending: str) -> None:
    one = row()
    with rows.other_connection() as other:
        rows.insert(one.organization_id, into=other, call_id=one.call_id, status="abandoned")

        async def work() -> Recorded | Spooled | Exception:
            asyncio.get_running_loop().call_later(0.2, getattr(other, ending))
            return await outcome(one)

        result = run(work())

    assert isinstance(result, AlreadyRecorded if ending == "commit" else Recorded)
    assert UsageRecord.objects.filter(call_id=one.call_id).count() == 1


def test_an_orderly_end_writes_what_is_queued() -> None:
    ones = [row() for _ in range(20)]

    async def work() -> None:
        for one in ones:
            ledger.current().record_later(one, [])

    run(work())

    assert all(stored(one) for one in ones)


def test_after_its_end_it_takes_no_more_rows() -> None:
    async def work() -> None:
        books = ledger.current()
        await books.close()
        with pytest.raises(LedgerUnavailable):
            books.record_later(row(), [])

    run(work())


def test_a_queue_that_is_full_refuses_and_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_WAITING", 2)
    kept = [row(), row()]

    async def work() -> None:
        for one in kept:
            ledger.current().record_later(one, [])
        with pytest.raises(LedgerUnavailable):
            ledger.current().record_later(row(), [])

    run(work())

    assert all(stored(one) for one in kept)
