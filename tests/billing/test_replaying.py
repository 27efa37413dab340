"""Rows written beside the group commit: once per call, whoever else writes, and one bad row takes no other down."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from billing import replaying
from billing.models import CallAttempt, UsageRecord
from billing.replaying import Standing
from billing.rows import Row
from gateway_project.lib import database, lifespan
from tests.billing.test_ledger import attempt, organization, row
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
