"""The registry of writers: who lives, and that a fence holds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from psycopg import AsyncConnection

from billing import ledger, rows, writers
from billing.models import LedgerWriter
from gateway_project.lib import database, lifespan
from tests.wire import wired

pytestmark = pytest.mark.usefixtures("committed_db")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def then_close() -> Any:
        try:
            return await work
        finally:
            await lifespan.stop()

    return asyncio.run(then_close())


def name() -> str:
    return f"w-{uuid4().hex[:12]}"


async def connected() -> AsyncConnection[Any]:
    return await AsyncConnection.connect(database.conninfo(), autocommit=True)


async def registered(writer_id: str | None = None) -> writers.Writer:
    writer = writers.Writer(writer_id or name())
    async with await connected() as wire:
        await writer.register(wire)
    return writer


def seen_long_ago(writer_id: str, *, seconds: float = 60) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_ledgerwriter SET seen_at = now() - make_interval(secs => %s) WHERE id = %s", [seconds, writer_id]
        )


def stored(writer_id: str) -> LedgerWriter:
    return LedgerWriter.objects.get(pk=writer_id)


def test_a_writer_that_was_registered_is_alive_until_it_is_silent() -> None:
    writer = run(registered())
    assert writer.registered
    assert writer.id in run(writers.alive(5))
    assert stored(writer.id).host
    seen_long_ago(writer.id)
    assert writer.id not in run(writers.alive(5))
    assert writer.id in run(writers.alive(120))


def test_a_heartbeat_keeps_it_alive() -> None:
    writer = run(registered())
    seen_long_ago(writer.id)

    async def beat() -> None:
        async with await connected() as wire:
            await writer.beat(wire)

    run(beat())
    assert writer.id in run(writers.alive(5))


def test_one_that_closed_in_good_order_is_neither_alive_nor_open() -> None:
    writer = run(registered())

    async def close() -> None:
        async with await connected() as wire:
            await writer.close(wire)

    run(close())
    seen_long_ago(writer.id)
    assert writer.id not in run(writers.alive(120))
    assert writer.id not in run(writers.open_writers())


def test_a_fence_is_told_once_and_stays() -> None:
    writer = run(registered())
    assert run(writers.fence([writer.id])) == [writer.id]
    first = stored(writer.id).fenced_at
    assert run(writers.fence([writer.id])) == []
    assert stored(writer.id).fenced_at == first is not None
    assert writer.id not in run(writers.alive(60))


def test_fencing_nobody_fences_nobody() -> None:
    writer = run(registered())
    assert run(writers.fence([])) == []
    assert writer.id in run(writers.alive(5))


def test_one_that_was_fenced_before_it_was_registered_gets_another_name() -> None:
    unknown = name()
    assert run(writers.fence([unknown])) == [unknown]
    writer = run(registered(unknown))
    assert writer.id != unknown
    assert writer.fenced_at is not None
    assert writer.id in run(writers.alive(5))


def test_a_heartbeat_after_a_fence_gives_another_name_and_says_so() -> None:
    heard: list[str] = []

    async def work() -> tuple[str, str]:
        writer = writers.Writer(name(), on_renamed=heard.append)
        async with await connected() as wire:
            await writer.register(wire)
            old = writer.id
            await writers.fence([old])
            await writer.beat(wire)
            await writer.beat(wire)
        return old, writer.id

    old, new = run(work())
    assert heard == [new]
    assert old != new
    assert new in run(writers.alive(5))


def test_one_that_was_silent_for_long_may_still_write_until_it_is_fenced() -> None:
    """PostgreSQL may have been away: then the living were silent, too."""
    silent, living = run(registered()), run(registered())
    seen_long_ago(silent.id, seconds=300)
    assert {silent.id, living.id} <= set(run(writers.open_writers()))
    assert run(writers.fence([silent.id])) == [silent.id]
    assert silent.id not in run(writers.open_writers())
    assert living.id in run(writers.open_writers())


def test_a_fence_waits_for_whoever_has_the_row_locked() -> None:
    writer = run(registered())

    async def work() -> list[str]:
        async with await AsyncConnection.connect(database.conninfo()) as beating:
            await beating.execute(writers.BEAT_SQL.replace(b"$1", b"%s"), (writer.id,))
            fencing = asyncio.create_task(writers.fence([writer.id]))
            await asyncio.sleep(0.2)
            assert not fencing.done()
            await beating.commit()
            return await fencing

    assert run(work()) == [writer.id]


def test_the_long_gone_are_forgotten() -> None:
    gone = run(registered())
    seen_long_ago(gone.id, seconds=8 * 86_400)
    run(registered())
    assert not LedgerWriter.objects.filter(pk=gone.id).exists()


def test_a_connection_that_is_of_no_use_is_not_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a database whose migrations are still to run."""
    monkeypatch.setattr(rows, "INSERT", database.Prepared("of_no_use", b"SELECT * FROM nowhere_at_all"))

    async def work() -> None:
        async with wired() as wire:
            with pytest.raises(psycopg.errors.UndefinedTable):
                await ledger.current().connect()
            assert wire.connections == 1
            async with asyncio.timeout(8):
                while wire._writers:
                    await asyncio.sleep(0.01)

    run(work())
