"""Rows written beside the group commit: once per call, whoever else writes, and one bad row takes no other down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db.models import Q

from billing import adjusting, ledger, replaying
from billing.buckets import Spend, spend_sums
from billing.ledger import AlreadyRecorded
from billing.models import CallAttempt, UsageRecord
from billing.replaying import Standing
from billing.rows import Row
from gateway_project.lib import database, lifespan
from tests.billing import rows
from tests.billing.test_ledger import attempt, organization, row
from tests.coroutines import with_lease
from tests.wire import wired


@pytest.fixture(autouse=True)
def made_before_coroutines_need_it(committed_db: None) -> None:
    organization()


def write(*given: Row) -> dict[Any, Standing]:
    async def work() -> dict[Any, Standing]:
        try:
            return await replaying.write([(one, [attempt(one)]) for one in given])
        finally:
            await lifespan.stop()

    return asyncio.run(work())


def test_rows_are_written_with_their_attempts() -> None:
    ones = [row(charged_nano_usd=5), row(status="failed")]

    standing = write(*ones)

    for one in ones:
        found = UsageRecord.objects.get(call_id=one.call_id)
        recorded = standing[one.call_id].recorded
        assert (found.transaction_id, found.recorded_at, found.charged_nano_usd, 0) == recorded
        assert standing[one.call_id][1:] == (one.status, timedelta())
    assert CallAttempt.objects.filter(call_id__in=[one.call_id for one in ones]).count() == 2


def test_whoever_comes_second_learns_what_stands_there() -> None:
    one = row(charged_nano_usd=5)
    first = write(one)[one.call_id]
    other = row(call_id=one.call_id, charged_nano_usd=70, status="abandoned")

    second = write(other, row())[one.call_id]

    assert second.recorded == first.recorded
    assert second.status == "ok"
    assert second.age > timedelta()
    assert UsageRecord.objects.filter(call_id=one.call_id).count() == 1


def test_a_row_that_is_refused_is_missing_and_the_others_are_written() -> None:
    good, bad = row(), row(environment="x" * 31)
    assert set(write(good, bad)) == {good.call_id}


def test_nothing_is_nothing() -> None:
    assert write() == {}


def test_without_postgresql_it_says_so() -> None:
    async def work() -> None:
        async with wired() as wire:
            wire.mode = "refused"
            try:
                with pytest.raises(database.DatabaseUnavailable):
                    await replaying.write([(row(), [])])
            finally:
                await lifespan.stop()

    asyncio.run(work())


# --- who else writes at that moment ------------------------------------------------------------
def together(*works: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """What each came to, an exception too; all on one loop, at once."""

    async def work() -> list[Any]:
        return list(await asyncio.gather(*(begin() for begin in works), return_exceptions=True))

    return list(with_lease(work()))


def charged(call_id: UUID) -> list[int]:
    rows_there = UsageRecord.objects.filter(Q(call_id=call_id) | Q(adjusts=call_id)).order_by("-charged_nano_usd")
    return list(rows_there.values_list("charged_nano_usd", flat=True))


def test_many_who_replay_one_call_write_it_once_and_are_told_the_same() -> None:
    """Two hosts with a copy of one spool, or a worker that takes over a file that is being replayed: figures may even differ."""
    one = row(charged_nano_usd=5)
    others = [row(call_id=one.call_id, charged_nano_usd=amount) for amount in range(6, 12)]

    async def write_one(given: Row) -> Standing:
        return (await replaying.write([(row(), []), (given, [attempt(given)]), (row(), [])]))[one.call_id]

    told = together(*(partial(write_one, given) for given in (one, *others)))

    [amount] = charged(one.call_id)
    assert {standing.recorded.charged_nano_usd for standing in told} == {amount}
    assert len({standing.recorded.transaction_id for standing in told}) == 1
    assert CallAttempt.objects.filter(call_id=one.call_id).count() == 1, "attempts come with the row that won"


def test_a_call_that_is_replayed_while_its_worker_writes_it_has_one_row() -> None:
    """A worker that was silent for long, and who writes in its place: the second is told so, and settles by what stands."""
    ones = [row(charged_nano_usd=7) for _ in range(5)]
    closed = [row(call_id=one.call_id, status="abandoned") for one in ones]

    async def by_its_worker() -> list[Any]:
        return list(await asyncio.gather(*(ledger.current().record(one, []) for one in ones), return_exceptions=True))

    own, standing = together(by_its_worker, partial(replaying.write, [(one, []) for one in closed]))

    for one, outcome in zip(ones, own, strict=True):
        stands, recorded = standing[one.call_id].status, standing[one.call_id].recorded
        assert charged(one.call_id) == [recorded.charged_nano_usd] == [7 if stands == "ok" else 0]
        assert outcome == recorded if stands == "ok" else isinstance(outcome, AlreadyRecorded)


def test_a_charge_that_many_take_back_at_once_comes_back_once() -> None:
    one = row(charged_nano_usd=70)
    write(one)

    async def take_back() -> Any:
        found = await adjusting.row_of(one.call_id)
        assert found is not None
        return await adjusting.take_back(found)

    first = together(*[take_back] * 5)
    again = together(take_back)

    assert {booked.transaction_id for booked in [*first, *again]} == {first[0].transaction_id}
    assert charged(one.call_id) == [70, -70]


def test_a_charge_and_what_takes_it_back_may_come_in_one_batch() -> None:
    """As a spool tells them after an outage; in whatever order, and all of it again changes nothing."""
    one = row(charged_nano_usd=70)
    back = adjusting.taken_back(one)
    for given in ((back, one), (one, back, one)):
        standing = write(*{entry.call_id: entry for entry in given}.values())
        assert {standing[one.call_id].status, standing[back.call_id].status} == {"ok", "adjustment"}
    assert charged(one.call_id) == [70, -70]


def test_what_was_replayed_counts_once_in_every_sum() -> None:
    of = rows.new_organization().pk
    ones = [row(organization_id=of, charged_nano_usd=1 << number) for number in range(5)]
    write(*ones[:3])
    rows.close_everything()
    write(*ones)
    assert spend_sums(of, subjects=["org", "pool"]).lifetime == {"org": Spend(31), "pool": Spend(31)}
    rows.close_everything()
    write(*ones)
    assert spend_sums(of, subjects=["org"]).lifetime["org"].charged == 31
