"""The ledger's monthly partitions: made ahead of time, and by the first row of a month for which nobody has.

Celery's beat makes them two months ahead. Where it has not run for longer than that, a call has been answered and paid for
by the time its row finds no partition: whoever writes the row makes it then (`rows.insert`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from django.db import connection, transaction
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from gateway_project.lib import ids

MONTHS_BEFORE = 1
MONTHS_AHEAD = 2
# A new partition locks the whole ledger for an instant. Where that must wait, calls would wait behind it: give up instead. The
# next hour tries again; a row goes to the spool, and tries again from there.
LOCK_TIMEOUT = "2s"
# For the transaction. One at a time: two that make the same month at once would both find it missing.
_ALONE: LiteralString = (
    "SELECT set_config('lock_timeout', %s, true), pg_advisory_xact_lock(hashtextextended('billing partitions', 0))"
)


def ensure_partitions(*, around: datetime) -> None:
    """Makes the partitions from last month to the month after next that are missing."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ALONE, [LOCK_TIMEOUT])
        cursor.execute(
            "SELECT billing_ensure_partition((%s AT TIME ZONE 'UTC' + make_interval(months => distance))::date)"
            " FROM generate_series(%s, %s) AS distance",
            [around, -MONTHS_BEFORE, MONTHS_AHEAD],
        )


async def ensure_months_of(call_ids: Iterable[UUID], *, connection: AsyncConnection[TupleRow]) -> None:
    """Makes the partitions in which these calls belong, where they are missing. Raises psycopg.Error."""
    months = sorted({ids.time_of(call_id).date().replace(day=1) for call_id in call_ids})
    async with connection.transaction():
        await connection.execute(_ALONE, [LOCK_TIMEOUT])
        await connection.execute("SELECT billing_ensure_partition(month) FROM unnest(%s::date[]) AS month", [months])
