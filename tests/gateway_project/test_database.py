"""PostgreSQL for coroutines: one pool per loop, one kind of error when it is away, and back when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from gateway_project.lib import database, lifespan
from gateway_project.lib.database import DatabaseUnavailable
from tests.wire import wired

pytestmark = pytest.mark.usefixtures("committed_db")


def on_a_loop(work: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        try:
            return await work()
        finally:
            await lifespan.stop()

    return asyncio.run(run())


def test_rows_are_dictionaries_of_real_values() -> None:
    async def ask() -> None:
        query = "SELECT %s::int AS number, %s::text AS text, NULL AS nothing, now() AS moment"
        (row,) = await database.rows(query, (7, "ä"))
        assert (row["number"], row["text"], row["nothing"]) == (7, "ä", None)
        assert row["moment"].tzinfo is not None
        named = await database.rows("SELECT %(n)s::int + n AS sum FROM generate_series(1, 3) AS n", {"n": 10})
        assert named == [{"sum": 11}, {"sum": 12}, {"sum": 13}]
        assert await database.rows("SELECT 1 WHERE false") == []

    on_a_loop(ask)


def test_the_first_queries_of_a_worker_may_come_all_at_once() -> None:
    async def ask() -> None:
        answers = await asyncio.gather(*(database.rows("SELECT %s::int AS n", (number,)) for number in range(40)))
        assert answers == [[{"n": number}] for number in range(40)]
        assert (await database.pool()).get_stats()["pool_size"] <= 8

    on_a_loop(ask)


def test_a_loop_keeps_its_pool_and_another_loop_has_another() -> None:
    async def own() -> database.Pool:
        assert await database.pool() is await database.pool()
        return await database.pool()

    first, second = on_a_loop(own), on_a_loop(own)
    assert first is not second
    assert first.closed
    assert second.closed


def test_every_statement_is_a_transaction_of_its_own() -> None:
    async def ask() -> None:
        (first,), (second,) = [await database.rows("SELECT pg_current_xact_id()::text AS x") for _ in range(2)]
        assert first != second
        async with (await database.pool()).connection() as connection:
            assert connection.autocommit

    on_a_loop(ask)


def test_a_wrong_statement_is_not_taken_for_an_absent_server() -> None:
    async def ask() -> None:
        with pytest.raises(psycopg.errors.SyntaxError):
            await database.rows("SELEKT 1")
        with pytest.raises(psycopg.errors.DivisionByZero):
            await database.rows("SELECT 1 / 0")
        assert await database.rows("SELECT 1 AS one") == [{"one": 1}]

    on_a_loop(ask)


def test_a_connection_cut_in_the_middle_is_an_absent_server_and_the_next_call_works() -> None:
    async def ask() -> None:
        async with wired() as wire:
            assert await database.rows("SELECT 1 AS one") == [{"one": 1}]
            asked = asyncio.create_task(database.rows("SELECT pg_sleep(0.5)"))
            await asyncio.sleep(0.1)
            wire.cut("through")
            with pytest.raises(DatabaseUnavailable):
                await asked
            assert await eventually("SELECT 2 AS two") == [{"two": 2}]
            await lifespan.stop()

    on_a_loop(ask)


async def eventually(query: str) -> list[dict[str, Any]]:
    """The rows once the pool has noticed what is broken; not long."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return await database.rows(query)
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


def test_a_server_that_is_back_is_noticed_by_the_next_who_ask_however_long_it_was_away() -> None:
    async def ask() -> None:
        async with wired() as wire:
            assert await database.rows("SELECT 1 AS one") == [{"one": 1}]
            wire.cut("refused")
            asked = []
            for _ in range(14):  # of attempts that double their wait the next would come at the seventh second
                asked.append(asyncio.create_task(database.rows("SELECT 1 AS one")))
                await asyncio.sleep(0.25)
            wire.mode = "through"
            async with asyncio.timeout(2):
                while not any(one.done() and not one.exception() for one in asked):
                    asked.append(asyncio.create_task(database.rows("SELECT 1 AS one")))
                    await asyncio.sleep(0.05)
            await asyncio.gather(*asked, return_exceptions=True)
            await lifespan.stop()

    on_a_loop(ask)


def test_who_waits_alone_is_served_once_the_server_is_back() -> None:
    async def ask() -> None:
        async with wired() as wire:
            assert await database.rows("SELECT 1 AS one") == [{"one": 1}]
            wire.cut("refused")
            alone = asyncio.create_task(database.rows("SELECT 2 AS two"))
            await asyncio.sleep(4 * database.RECONNECT_SECONDS)  # by then the pool has given up
            wire.mode = "through"
            assert await alone == [{"two": 2}]
            await lifespan.stop()

    on_a_loop(ask)


def test_however_many_connections_a_restart_has_broken_the_next_who_asks_is_served() -> None:
    async def held_until(all_are_there: asyncio.Barrier) -> None:
        async with database.connected():
            await all_are_there.wait()

    async def ask() -> None:
        all_are_there = asyncio.Barrier(8)
        async with wired() as wire:
            await asyncio.gather(*(held_until(all_are_there) for _ in range(8)))
            assert (await database.pool()).get_stats()["pool_size"] == 8
            wire.cut("through")
            assert await database.rows("SELECT 1 AS one") == [{"one": 1}]
            await lifespan.stop()

    on_a_loop(ask)


def test_a_server_that_says_nothing_more_is_told_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.3)

    async def ask() -> None:
        async with wired() as wire:
            assert await database.rows("SELECT 1 AS one") == [{"one": 1}]
            wire.mode = "silent"
            with pytest.raises(DatabaseUnavailable):
                await database.rows("SELECT 1 AS one")
            wire.cut("through")
            assert await eventually("SELECT 2 AS two") == [{"two": 2}]
            await lifespan.stop()

    on_a_loop(ask)


def test_a_statement_the_server_ended_is_told_as_unavailable() -> None:
    async def ask() -> None:
        with pytest.raises(DatabaseUnavailable):
            await database.rows("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await eventually("SELECT 1 AS one") == [{"one": 1}]

    on_a_loop(ask)


def test_the_address_is_djangos_with_nothing_invented() -> None:
    from django.db import connection

    words = conninfo_to_dict(database.conninfo())
    assert words["dbname"] == connection.settings_dict["NAME"]
    known = {"dbname", "user", "password", "host", "port", "client_encoding"}
    assert set(words) <= {*known, *connection.settings_dict["OPTIONS"]}


def test_awkward_passwords_survive_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection

    password = r"a b'c\d=é %s"
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", password)
    monkeypatch.setitem(connection.settings_dict, "HOST", "")
    words = conninfo_to_dict(database.conninfo())
    assert words["password"] == password
    assert "host" not in words


def test_what_the_address_asks_of_tls_holds_for_coroutines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection

    options = {**connection.settings_dict["OPTIONS"], "sslmode": "verify-full", "sslrootcert": "/etc/ca.pem", "pool": True}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    words = conninfo_to_dict(database.conninfo())
    assert (words["sslmode"], words["sslrootcert"]) == ("verify-full", "/etc/ca.pem")
    assert "pool" not in words  # Django's own


def test_a_statement_that_takes_too_long_is_told_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "STATEMENT_SECONDS", 0.2)

    async def ask() -> None:
        with pytest.raises(DatabaseUnavailable):
            await database.rows("SELECT pg_sleep(5)")

    on_a_loop(ask)
