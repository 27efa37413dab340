"""What stands in the ledger for one call, and how many of them are written: one statement, one transaction, one commit.

Rows travel as JSON, one parameter per batch, and PostgreSQL expands them by the table's own column types: nothing
here repeats the schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from billing.partitions import ensure_months_of
from gateway_project.lib import database

log = structlog.get_logger(__name__)

# What a row itself may be the reason of; the last two are figures and texts that JSON cannot carry.
UNWRITABLE = (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError, OverflowError, UnicodeError)


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
    """One finished call: the columns of billing_usagerecord that the database does not fill itself.

    `recorded_at` is only the earliest moment that it may be: PostgreSQL's clock says which it is.
    """

    call_id: UUID
    admitted_at: datetime
    recorded_at: datetime | None = None
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
    preset: str = ""
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    units: dict[str, int] = {}
    usage_estimated: bool = False
    price_version_id: int | None = None
    unit_prices: dict[str, int] = {}
    cost_parts: dict[str, int] = {}
    charged_nano_usd: int = 0
    list_nano_usd: int = 0
    byok: bool = False
    absorbed_nano_usd: int = 0
    reserved_nano_usd: int = 0
    baseline_nano_usd: int | None = None
    cache_saving_nano_usd: int = 0
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

    @property
    def own_nano_usd(self) -> int:
        """What the call counts in budgets that count calls on own provider keys."""
        return self.list_nano_usd if self.byok else 0

    @property
    def counts(self) -> bool:
        """Whether any budget or the pool counts something of it."""
        return bool(self.charged_nano_usd or self.own_nano_usd)


class Recorded(NamedTuple):
    """The commit that made the row durable, and the amounts that stand in it: the row may have changed while it waited."""

    transaction_id: int
    recorded_at: datetime
    charged_nano_usd: int
    own_nano_usd: int


class Inserted(NamedTuple):
    """`written`: the rows that were new. `writer_alive` is false where the writer is fenced: then nothing was written."""

    writer_alive: bool
    written: dict[UUID, Recorded]


# A fence waits for the inserts that hold this lock, and every insert after it finds nothing. It is the weakest there is,
# so the writer's own heartbeat, which changes no key, passes.
ALIVE = "SELECT id FROM billing_ledgerwriter WHERE id = $1 AND fenced_at IS NULL FOR KEY SHARE"
ANYBODY = "SELECT $1::text AS id"
# As Row.own_nano_usd says it.
OWN: LiteralString = "CASE WHEN byok THEN list_nano_usd ELSE 0 END"
# A call that Redis admitted into a window is not recorded before it, though PostgreSQL's clock be behind: it would count in
# neither, and nothing would end either's spending. A clock that is further ahead than 15 minutes is not believed at all.
RECORDED_AT: LiteralString = (
    "CASE WHEN recorded_at <= now() + interval '15 minutes' THEN greatest(now(), recorded_at) ELSE now() END"
)


def _statement(alive: LiteralString) -> bytes:
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in Row.__struct_fields__ if name != "recorded_at")
    attempt_columns = sql.SQL(", ").join(sql.Identifier(name) for name in Attempt.__struct_fields__)
    return (
        sql.SQL(
            """
        WITH alive AS MATERIALIZED ({alive}), fresh AS (
            INSERT INTO billing_usagerecord ({columns}, transaction_id, recorded_at)
            SELECT {columns}, pg_current_xact_id()::text::bigint, {recorded_at}
            FROM json_populate_recordset(NULL::billing_usagerecord, $2::json)
            WHERE EXISTS (SELECT FROM alive)
            ON CONFLICT (call_id) DO NOTHING
            RETURNING call_id, recorded_at, charged_nano_usd, {own} AS own_nano_usd
        ), attempts AS (
            INSERT INTO billing_callattempt ({attempt_columns})
            SELECT {attempt_columns}
            FROM json_populate_recordset(NULL::billing_callattempt, $3::json)
            WHERE call_id IN (SELECT call_id FROM fresh)
        )
        SELECT json_build_object(
            'alive', EXISTS (SELECT FROM alive), 'transaction_id', pg_current_xact_id()::text::bigint,
            'fresh', coalesce(json_agg(json_build_array(call_id, recorded_at, charged_nano_usd, own_nano_usd)), '[]')
        ) FROM fresh
        """
        )
        .format(
            alive=sql.SQL(alive),
            columns=columns,
            attempt_columns=attempt_columns,
            own=sql.SQL(OWN),
            recorded_at=sql.SQL(RECORDED_AT),
        )
        .as_bytes()
    )


INSERT = database.Prepared("ledger_insert", _statement(ALIVE))
INSERT_FOR_ANYBODY = database.Prepared("ledger_insert_for_anybody", _statement(ANYBODY))


class _Told(msgspec.Struct):
    """What the statement says of what it did."""

    alive: bool
    transaction_id: int
    fresh: list[tuple[UUID, datetime, int, int]]


_read = msgspec.json.Decoder(_Told).decode


async def insert(
    connection: AsyncConnection[TupleRow], batch: Iterable[tuple[Row, Sequence[Attempt]]], *, writer_id: str | None
) -> Inserted:
    """Writes what is new of a batch, in months that are made if need be. Without a writer no fence is asked for: such rows are
    durable elsewhere already.

    Raises one of UNWRITABLE where a row is at fault, and then nothing is written; any other psycopg.Error, OSError.
    """
    batch = list(batch)
    rows = msgspec.json.encode([row for row, _ in batch])
    attempts = msgspec.json.encode([attempt for _, attempts in batch for attempt in attempts])
    statement = INSERT_FOR_ANYBODY if writer_id is None else INSERT
    given = (None if writer_id is None else writer_id.encode(), rows, attempts)
    try:
        told = _read(await statement.value(connection, *given))
    except psycopg.errors.CheckViolation:  # so PostgreSQL names a row whose month has no partition
        log.warning("ledger.month_made", rows=len(batch))
        await ensure_months_of((row.call_id for row, _ in batch), connection=connection)
        told = _read(await statement.value(connection, *given))
    return Inserted(
        told.alive,
        {call_id: Recorded(told.transaction_id, *recorded) for call_id, *recorded in told.fresh},  # type: ignore[arg-type]
    )
