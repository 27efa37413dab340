"""The ledger's writing end: one row per call, durable before the caller gets the last byte.

Group commit: finished calls gather while the previous batch is being written, and go out as one
statement, one transaction, one commit. Guarantees:
1. `record` returns only after PostgreSQL has committed the row, with the transaction that did;
2. a call id is written once: `AlreadyRecorded` tells a worker that somebody else has closed its call;
3. one bad row never takes others of its batch down;
4. PostgreSQL away: `LedgerUnavailable` after a bounded time, never a hang. The row stays queued, and
   is written when PostgreSQL is back.

Rows travel as JSON, one parameter per batch, and PostgreSQL expands them by the table's own column
types: nothing here repeats the schema.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec
import psycopg
import structlog
from django.conf import settings
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from gateway_project.lib import database, lifespan

log = structlog.get_logger(__name__)

MAX_BATCH = 500
# Beyond this many rows waiting for PostgreSQL new calls are refused rather than remembered.
MAX_WAITING = 50_000
RETRY_SECONDS = 0.5
# What a row itself may be the reason of; the last two are figures and texts that JSON cannot carry.
UNWRITABLE = (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError, OverflowError, UnicodeError)


class LedgerUnavailable(Exception):
    """The row is not known to be durable."""


class RowRefused(LedgerUnavailable):
    """The ledger will never take this row: nothing stands under its call id."""


class AlreadyRecorded(Exception):
    """Another row stands under this call id."""


class Attempt(msgspec.Struct, frozen=True):
    """One try at one deployment: a row of billing_callattempt."""

    call_id: UUID
    number: int
    deployment_id: int | None
    provider: str
    model: str
    status: str
    http_status: int | None
    error: str
    latency_ms: int
    provider_nano_usd: int = 0


class Row(msgspec.Struct, kw_only=True):
    """One finished call: the columns of billing_usagerecord that the database does not fill itself."""

    call_id: UUID
    admitted_at: datetime
    organization_id: int
    group0_id: int
    group1_id: int | None = None
    group2_id: int | None = None
    group3_id: int | None = None
    group4_id: int | None = None
    member_id: int | None = None
    api_key_id: int
    application_id: int | None = None
    feature: str = ""
    environment: str = ""
    protocol: str
    streamed: bool = False
    requested_model: str = ""
    served_model: str = ""
    provider: str = ""
    deployment_id: int | None = None
    route_reason: str = ""
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    usage_estimated: bool = False
    price_version_id: int | None = None
    unit_prices: dict[str, int] = {}
    cost_parts: dict[str, int] = {}
    charged_nano_usd: int = 0
    list_nano_usd: int = 0
    absorbed_nano_usd: int = 0
    reserved_nano_usd: int = 0
    latency_ms: int | None = None
    first_token_ms: int | None = None
    status: str
    http_status: int
    error_code: str = ""
    finish_reason: str = ""
    attempt_count: int = 0
    call_count: int = 1
    decision: dict[str, Any] = {}
    adjusts: UUID | None = None


class Recorded(NamedTuple):
    """The commit that made the row durable, and the charge that stands in it: the row may have changed while it waited."""

    transaction_id: int
    recorded_at: datetime
    charged_nano_usd: int


def _insert_statement() -> bytes:
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in Row.__struct_fields__)
    attempt_columns = sql.SQL(", ").join(sql.Identifier(name) for name in Attempt.__struct_fields__)
    return (
        sql.SQL(
            """
        WITH fresh AS (
            INSERT INTO billing_usagerecord ({columns}, transaction_id, recorded_at)
            SELECT {columns}, pg_current_xact_id()::text::bigint, now()
            FROM json_populate_recordset(NULL::billing_usagerecord, %s::json)
            ON CONFLICT (call_id) DO NOTHING
            RETURNING call_id, charged_nano_usd
        ), attempts AS (
            INSERT INTO billing_callattempt ({attempt_columns})
            SELECT {attempt_columns}
            FROM json_populate_recordset(NULL::billing_callattempt, %s::json)
            WHERE call_id IN (SELECT call_id FROM fresh)
        )
        SELECT pg_current_xact_id()::text::bigint, now(), array_agg(call_id), array_agg(charged_nano_usd) FROM fresh
        """
        )
        .format(columns=columns, attempt_columns=attempt_columns)
        .as_bytes()
    )


INSERT = _insert_statement()

# Only resolvers (proxy.holds) write under the call ids of others, and only rows of this status.
OWN_SQL = b"""
SELECT call_id, transaction_id, recorded_at, charged_nano_usd
FROM billing_usagerecord WHERE call_id = ANY(%s) AND status <> 'abandoned'
"""


class _Waiting(NamedTuple):
    row: Row
    attempts: list[Attempt]
    done: asyncio.Future[Recorded]


class Ledger:
    """The committer of one event loop."""

    def __init__(self) -> None:
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._connection: AsyncConnection[TupleRow] | None = None
        # Calls whose insert may have been committed although the connection broke.
        self._uncertain: set[UUID] = set()
        self._task = asyncio.get_running_loop().create_task(self._write_forever())
        lifespan.on_shutdown(self.close)

    async def record(self, row: Row, attempts: list[Attempt]) -> Recorded:
        """Waits for the commit. Raises AlreadyRecorded, RowRefused, LedgerUnavailable."""
        return await confirmed(self.record_later(row, attempts))

    def record_later(self, row: Row, attempts: list[Attempt]) -> asyncio.Future[Recorded]:
        """Queues the row without waiting; the future tells when it is durable. Raises LedgerUnavailable."""
        if self._task.done() or len(self._queue) >= MAX_WAITING:
            raise LedgerUnavailable("the ledger takes no more rows")
        done: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        # A row nobody waits for may fail without a reader of its exception.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._queue.append(_Waiting(row, attempts, done))
        self._arrived.set()
        return done

    async def close(self) -> None:
        """Writes what is queued, as long as PostgreSQL answers, then ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.LEDGER_TIMEOUT_SECONDS):
                while self._queue:
                    await asyncio.sleep(0.01)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._disconnect()

    async def _write_forever(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._queue[:MAX_BATCH]
            try:
                await self._write(batch)
            except (psycopg.Error, OSError) as error:
                log.error("ledger.unavailable", rows=len(self._queue), error=type(error).__name__)
                self._uncertain |= {waiting.row.call_id for waiting in batch}
                await self._disconnect()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            del self._queue[: len(batch)]
            if not self._queue:
                self._arrived.clear()

    async def _write(self, batch: list[_Waiting]) -> None:
        try:
            async with asyncio.timeout(settings.LEDGER_TIMEOUT_SECONDS):
                await self._insert(batch)
        except UNWRITABLE as error:
            if len(batch) == 1:
                _refuse(batch[0], error)
                return
            for waiting in batch:
                await self._write([waiting])

    async def _insert(self, batch: list[_Waiting]) -> None:
        connection = await self._connected()
        rows = msgspec.json.encode([waiting.row for waiting in batch])
        attempts = msgspec.json.encode([attempt for waiting in batch for attempt in waiting.attempts])
        cursor = await connection.execute(INSERT, (rows.decode(), attempts.decode()))
        found = await cursor.fetchone()
        transaction_id, recorded_at, fresh, charges = found if found is not None else (0, None, None, None)
        written = {
            call_id: Recorded(transaction_id, recorded_at, charged)
            for call_id, charged in zip(fresh or (), charges or (), strict=True)
        }
        written |= await self._own({waiting.row.call_id for waiting in batch}.difference(written))
        self._uncertain -= {waiting.row.call_id for waiting in batch}
        for waiting in batch:
            if waiting.done.done():
                continue
            if waiting.row.call_id in written:
                waiting.done.set_result(written[waiting.row.call_id])
            else:
                waiting.done.set_exception(AlreadyRecorded(str(waiting.row.call_id)))

    async def _own(self, conflicting: set[UUID]) -> dict[UUID, Recorded]:
        """Rows in conflict with ourselves: committed by an earlier try whose answer was lost."""
        asked = self._uncertain & conflicting
        if not asked:
            return {}
        cursor = await (await self._connected()).execute(OWN_SQL, (list(asked),))
        return {call_id: Recorded(*rest) for call_id, *rest in await cursor.fetchall()}

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> AsyncConnection[TupleRow]:
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(database.conninfo(), autocommit=True, connect_timeout=5)
        return self._connection


def _refuse(waiting: _Waiting, error: Exception) -> None:
    log.error("ledger.row_refused", call_id=str(waiting.row.call_id), error=type(error).__name__)
    if not waiting.done.done():
        waiting.done.set_exception(RowRefused(f"the ledger refused the row: {type(error).__name__}"))


async def confirmed(done: asyncio.Future[Recorded]) -> Recorded:
    """Waits for a queued row, for a bounded time; the row itself stays queued. Raises as `record`."""
    try:
        async with asyncio.timeout(settings.LEDGER_TIMEOUT_SECONDS):
            return await asyncio.shield(done)
    except TimeoutError as error:
        raise LedgerUnavailable("the ledger did not confirm the row in time") from error


_ledgers: WeakKeyDictionary[asyncio.AbstractEventLoop, Ledger] = WeakKeyDictionary()


def current() -> Ledger:
    """The ledger of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _ledgers:
        _ledgers[loop] = Ledger()
    return _ledgers[loop]
