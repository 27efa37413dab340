"""Rows that are written outside the group commit: those of a spool, and those that close the calls of dead workers.

Both may be written by several at once and again after a crash. A call id takes one row, so whoever comes second
learns what stands there, and settles with that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg
import structlog
from django.conf import settings
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from billing import rows
from billing.rows import UNWRITABLE, Attempt, Recorded, Row
from gateway_project.lib import database

log = structlog.get_logger(__name__)

Batch = Sequence[tuple[Row, Sequence[Attempt]]]

FOUND_SQL = f"""
SELECT call_id, transaction_id, recorded_at, charged_nano_usd, {rows.OWN}, status, now() - least(recorded_at, admitted_at)
FROM billing_usagerecord WHERE call_id = ANY(%s)
""".encode()  # noqa: S608 - a constant


class Standing(NamedTuple):
    """What stands in the ledger under a call id. `age`: how long ago it was written at most, zero for what was written now."""

    recorded: Recorded
    status: str
    age: timedelta


async def write(batch: Batch) -> dict[UUID, Standing]:
    """Every call of the batch as it stands now; one that is missing will never be taken. Raises DatabaseUnavailable."""
    try:
        async with database.connected() as connection:
            async with asyncio.timeout(settings.LEDGER_TIMEOUT_SECONDS):
                return await _write(connection, batch)
    except UNWRITABLE as error:
        if len(batch) == 1:
            log.error("ledger.row_refused", call_id=str(batch[0][0].call_id), error=type(error).__name__)
            return {}
        one_by_one = [await write([one]) for one in batch]
        return {call_id: standing for found in one_by_one for call_id, standing in found.items()}
    except (psycopg.Error, OSError) as error:
        raise database.DatabaseUnavailable(f"PostgreSQL did not take the rows: {type(error).__name__}") from error


async def _write(connection: AsyncConnection[TupleRow], batch: Batch) -> dict[UUID, Standing]:
    inserted = await rows.insert(connection, batch, writer_id=None)
    statuses = {row.call_id: row.status for row, _ in batch}
    standing = {call_id: Standing(recorded, statuses[call_id], timedelta()) for call_id, recorded in inserted.written.items()}
    others = set(statuses).difference(standing)
    if others:
        cursor = await connection.execute(FOUND_SQL, (list(others),))
        for call_id, *recorded, status, age in await cursor.fetchall():
            standing[call_id] = Standing(Recorded(*recorded), status, age)
    return standing
