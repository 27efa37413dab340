"""PostgreSQL for coroutines: one small psycopg pool per event loop. The ORM stays on the console's side.

Every connection is in autocommit mode: a statement is a transaction, none is held while a provider is read.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

import psycopg
from django.db import connection as django_connection
from psycopg import AsyncConnection, OperationalError, generators, pq
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow, dict_row
from psycopg_pool import AsyncConnectionPool

from gateway_project.lib import lifespan
from gateway_project.lib.loops import PerLoop

# A server that accepts connections and says nothing must not hold a call for ever.
STATEMENT_SECONDS = 10.0
# The pool doubles its wait after each attempt to connect: after half a minute without PostgreSQL, whoever needs it would wait
# for a quarter of one more. Having given up so soon, it tries anew for whoever waits, and for the next who asks.
RECONNECT_SECONDS = 0.5
# For a connection.
WAIT_SECONDS = 5.0
# For connections that are just being made, where a server says nothing.
CLOSING_SECONDS = 1.0

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached."""


def conninfo() -> str:
    """The address that Django uses, tests' database included."""
    settings = django_connection.settings_dict
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    address = {word: str(settings[name]) for name, word in names.items() if settings.get(name)}
    # sslmode, sslrootcert, options and the like; what is Django's own is not text.
    options = {name: value for name, value in settings["OPTIONS"].items() if isinstance(value, str)}
    # As Django's own connections have it: `Prepared` sends bytes, whatever the database or PGCLIENTENCODING says.
    return make_conninfo(**{**address, **options, "client_encoding": "UTF8"})


async def pool() -> Pool:
    """The pool of the running event loop, opened on first use."""
    found = _pools.get()
    if found is None:
        found = _pools()
        await found.open()
        lifespan.on_shutdown(functools.partial(found.close, timeout=CLOSING_SECONDS))
    return found


def _closed() -> Pool:
    return AsyncConnectionPool(
        conninfo(),
        min_size=1,
        max_size=8,
        timeout=WAIT_SECONDS,
        reconnect_timeout=RECONNECT_SECONDS,
        reconnect_failed=_try_again_for_who_waits,
        kwargs={"autocommit": True, "connect_timeout": 5},
        open=False,
    )


async def _try_again_for_who_waits(pool: Pool) -> None:
    """Who is in the queue already asks for no further attempt: alone it would wait in vain."""
    if pool.get_stats().get("requests_waiting"):
        await pool.check()


_pools = PerLoop(_closed)


@asynccontextmanager
async def connected() -> AsyncIterator[AsyncConnection[TupleRow]]:
    """A connection that works. Raises psycopg.OperationalError.

    A server that was started anew has broken them all, and whoever asks must not be what finds out. The pool's own check would
    pause longer after each that it finds broken: after three of them, and all of that while the server is back, for ever.
    """
    found = await pool()
    until = time.monotonic() + WAIT_SECONDS
    while True:
        async with found.connection(timeout=until - time.monotonic()) as connection:
            if await _works(connection, seconds=until - time.monotonic()):
                yield connection
                return


async def _works(connection: AsyncConnection[TupleRow], *, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await AsyncConnectionPool.check_connection(connection)
    except (OperationalError, TimeoutError):
        return False
    return True


async def rows(query: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
    """All rows of one statement, as dictionaries. Raises DatabaseUnavailable."""
    try:
        async with connected() as connection, connection.cursor(row_factory=dict_row) as cursor:
            async with asyncio.timeout(STATEMENT_SECONDS):
                await cursor.execute(query.encode(), parameters)
                return await cursor.fetchall()
    except (OperationalError, TimeoutError) as error:
        raise DatabaseUnavailable(f"PostgreSQL did not answer: {type(error).__name__}") from error


class Prepared:
    """A statement with one value for an answer, that a connection runs again and again.

    By libpq's own words (https://www.postgresql.org/docs/current/libpq-exec.html): a cursor takes twice as long, half of it
    to look up how to write parameters and read columns whose types never change.
    """

    def __init__(self, name: str, text: bytes) -> None:
        """`text`: with $1, $2, … for its parameters."""
        self._name, self._text = name.encode(), text
        self._known: WeakSet[AsyncConnection[TupleRow]] = WeakSet()

    async def prepare(self, connection: AsyncConnection[TupleRow]) -> None:
        """Ahead of its first use. Raises psycopg.Error."""
        async with connection.lock:
            await connection.wait(self._prepared(connection))

    async def value(self, connection: AsyncConnection[TupleRow], *parameters: bytes | None) -> bytes:
        """The value as PostgreSQL writes it, in UTF-8 as the parameters are. Raises psycopg.Error."""
        async with connection.lock:
            result = await connection.wait(self._run(connection, parameters))
        value = result.get_value(0, 0)
        if value is None:
            raise psycopg.InternalError("a statement without a value")
        return value

    def _run(self, connection: AsyncConnection[TupleRow], parameters: Sequence[bytes | None]) -> PQGen[PGresult]:
        if connection not in self._known:
            yield from self._prepared(connection)
        connection.pgconn.send_query_prepared(self._name, parameters)
        return _only((yield from generators.execute(connection.pgconn)))

    def _prepared(self, connection: AsyncConnection[TupleRow]) -> PQGen[None]:
        connection.pgconn.send_prepare(self._name, self._text)
        _only((yield from generators.execute(connection.pgconn)))
        self._known.add(connection)


def _only(results: list[PGresult]) -> PGresult:
    """Of one statement. A connection that ends may have told why, or nothing at all."""
    for result in results:
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise psycopg.errors.error_from_result(result)
    if not results:
        raise psycopg.OperationalError("PostgreSQL ended the connection without an answer")
    return results[0]
