"""A statement that a connection runs again and again, by libpq's own words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from gateway_project.lib import database
from gateway_project.lib.database import Prepared
from tests.wire import wired

pytestmark = pytest.mark.usefixtures("committed_db")

Connection = AsyncConnection[Any]
DOUBLE = b"SELECT ($1::bigint * 2)::text"
ECHO = b"SELECT json_build_object('text', $1::text)"


def connected(work: Callable[[Connection], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as connection:
            return await work(connection)

    return asyncio.run(run())


def known_to(connection: Connection) -> Awaitable[list[str]]:
    async def names() -> list[str]:
        cursor = await connection.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'test_%'", prepare=False)
        return [name for (name,) in await cursor.fetchall()]

    return names()


@pytest.fixture
def double() -> Prepared:
    return Prepared("test_double", DOUBLE)


def test_it_is_prepared_once_and_answers_every_time(double: Prepared) -> None:
    async def work(connection: Connection) -> None:
        assert await known_to(connection) == []
        assert [await double.value(connection, str(number).encode()) for number in range(20)] == [
            str(2 * number).encode() for number in range(20)
        ]
        assert await known_to(connection) == ["test_double"]

    connected(work)


def test_it_can_be_prepared_ahead(double: Prepared) -> None:
    async def work(connection: Connection) -> None:
        await double.prepare(connection)
        assert await known_to(connection) == ["test_double"]
        assert await double.value(connection, b"4") == b"8"

    connected(work)


def test_each_connection_is_told_of_it_by_itself(double: Prepared) -> None:
    async def work(connection: Connection) -> None:
        async with await AsyncConnection.connect(database.conninfo(), autocommit=True) as other:
            assert await double.value(connection, b"1") == b"2"
            assert await known_to(other) == []
            assert await double.value(other, b"3") == b"6"

    connected(work)


@pytest.mark.parametrize("text", ["", "plain", "ä€😀\N{LINE SEPARATOR}", "'; DROP TABLE x; --", "\\ $1 %s", "x" * 300_000])
def test_parameters_and_value_are_text_in_utf_8(text: str) -> None:
    async def work(connection: Connection) -> bytes:
        return await Prepared("test_echo", b"SELECT $1::text").value(connection, text.encode())

    assert connected(work).decode() == text


def test_what_the_environment_says_of_the_encoding_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq would take it for the connection's, as it takes the database's own where nothing is said."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")

    async def work(connection: Connection) -> None:
        told = await Prepared("test_length", b"SELECT length($1::text) || ' of ' || $1::text").value(connection, "ä€".encode())
        assert told.decode() == "2 of ä€"

    connected(work)


def test_a_parameter_may_be_null_and_a_value_may_not() -> None:
    async def work(connection: Connection) -> None:
        assert await Prepared("test_echo", ECHO).value(connection, None) == b'{"text" : null}'
        with pytest.raises(psycopg.InternalError, match="without a value"):
            await Prepared("test_null", b"SELECT $1::text").value(connection, None)

    connected(work)


def test_what_postgresql_refuses_is_raised_as_its_kind_and_the_connection_goes_on(double: Prepared) -> None:
    async def work(connection: Connection) -> None:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await double.value(connection, b"many")
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            await double.value(connection, str(2**62).encode())
        with pytest.raises(psycopg.errors.UndefinedTable):
            await Prepared("test_nowhere", b"SELECT * FROM nowhere_at_all").value(connection)
        assert await double.value(connection, b"5") == b"10"

    connected(work)


def test_a_statement_that_could_not_be_prepared_is_tried_again() -> None:
    statement = Prepared("test_later", b"SELECT count(*)::text FROM test_prepared_later")

    async def work(connection: Connection) -> None:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await statement.value(connection)
        await connection.execute("CREATE TEMP TABLE test_prepared_later (n int)")
        assert await statement.value(connection) == b"0"

    connected(work)


def test_in_a_transaction_it_is_part_of_it(double: Prepared) -> None:
    count = Prepared("test_count", b"SELECT count(*)::text FROM test_prepared_rows")

    async def work(connection: Connection) -> None:
        await connection.execute("CREATE TEMP TABLE test_prepared_rows (n int)")

        async def fail() -> None:
            async with connection.transaction():
                await connection.execute("INSERT INTO test_prepared_rows VALUES (1)")
                assert await count.value(connection) == b"1"
                await Prepared("test_zero", b"SELECT (1 / $1::int)::text").value(connection, b"0")

        with pytest.raises(psycopg.errors.DivisionByZero):
            await fail()
        assert await count.value(connection) == b"0"

    connected(work)


def test_two_at_once_wait_for_each_other(double: Prepared) -> None:
    slow = Prepared("test_slow", b"SELECT pg_sleep(0.05)::text || $1::text")

    async def work(connection: Connection) -> list[bytes]:
        asked = [slow.value(connection, b"a"), double.value(connection, b"1"), slow.value(connection, b"b")]
        return list(await asyncio.gather(*asked))

    assert connected(work) == [b"a", b"2", b"b"]


def test_a_connection_that_breaks_says_so(double: Prepared) -> None:
    async def work() -> None:
        async with wired() as wire:
            connection = await AsyncConnection.connect(database.conninfo(), autocommit=True)
            assert await double.value(connection, b"1") == b"2"
            wire.cut("refused")
            with pytest.raises(psycopg.OperationalError):
                await double.value(connection, b"1")
            assert connection.closed
            await connection.close()

    asyncio.run(work())


def test_a_server_that_ends_the_connection_says_why() -> None:
    ending = Prepared("test_ending", b"SELECT pg_terminate_backend(pg_backend_pid())::text")

    async def work(connection: Connection) -> None:
        with pytest.raises(psycopg.OperationalError, match="terminat"):
            await ending.value(connection)
        with pytest.raises(psycopg.OperationalError):
            await ending.value(connection)

    connected(work)


def test_no_answer_at_all_is_an_end_too() -> None:
    """As libpq has it of a connection that was lost before the statement was sent: whoever writes the ledger tries anew."""
    with pytest.raises(psycopg.OperationalError, match="without an answer"):
        database._only([])


def test_a_wait_that_is_given_up_leaves_the_connection_usable_or_closed(double: Prepared) -> None:
    """As psycopg's own waits do."""
    sleeping = Prepared("test_sleeping", b"SELECT pg_sleep(30)::text")

    async def work(connection: Connection) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await sleeping.value(connection)
        if not connection.closed:
            assert await double.value(connection, b"2") == b"4"

    connected(work)
