"""Who may write to the ledger: every committer is registered, shows each second that it lives, and can be fenced.

Whoever rebuilds counters must know that nothing of a silent worker arrives later unnoticed. So it fences the worker:
1. the fence waits for inserts of that writer that are under way, and none that begins later writes anything
   (billing.rows asks in the same statement);
2. a fence is for ever: the worker goes on under a new name, and what it had admitted before is not charged any more;
3. rows in a spool are not concerned: their answers have gone out.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from gateway_project.lib import database

log = structlog.get_logger(__name__)

BEAT_SECONDS = 1.0
REMEMBERED = "7 days"

FORGET_SQL = f"DELETE FROM billing_ledgerwriter WHERE seen_at < now() - interval '{REMEMBERED}'".encode()  # noqa: S608
REGISTER_SQL = b"""
INSERT INTO billing_ledgerwriter (id, host, started_at, seen_at) VALUES (%s, %s, now(), now())
ON CONFLICT (id) DO UPDATE SET seen_at = now(), closed_at = NULL
RETURNING fenced_at IS NULL
"""
BEAT_SQL = b"""
WITH seen AS (UPDATE billing_ledgerwriter SET seen_at = now() WHERE id = $1 AND fenced_at IS NULL RETURNING id)
SELECT count(*) FROM seen
"""
BEAT = database.Prepared("ledger_beat", BEAT_SQL)
CLOSE_SQL = b"UPDATE billing_ledgerwriter SET closed_at = now() WHERE id = %s"

ALIVE_SQL = """
SELECT id FROM billing_ledgerwriter
WHERE fenced_at IS NULL AND closed_at IS NULL AND seen_at > now() - make_interval(secs => %s) ORDER BY id
"""
OPEN_SQL = "SELECT id FROM billing_ledgerwriter WHERE fenced_at IS NULL AND closed_at IS NULL ORDER BY id"
# One that was never registered is fenced before it can be.
UNKNOWN_SQL = """
INSERT INTO billing_ledgerwriter (id, host, started_at, seen_at, fenced_at)
SELECT id, '', now(), now(), now() FROM unnest(%s::text[]) AS id
ON CONFLICT (id) DO NOTHING RETURNING id
"""
# FOR UPDATE is the one lock that waits for the KEY SHARE of a running insert; an UPDATE alone would not.
FENCE_SQL = """
WITH locked AS (
    SELECT id FROM billing_ledgerwriter WHERE fenced_at IS NULL AND id = ANY(%s) ORDER BY id FOR UPDATE
)
UPDATE billing_ledgerwriter AS writer SET fenced_at = now() FROM locked WHERE writer.id = locked.id RETURNING writer.id
"""


class Writer:
    """The name under which one committer writes. `on_renamed` hears the new one after a fence."""

    def __init__(self, writer_id: str | None = None, *, on_renamed: Callable[[str], None] | None = None) -> None:
        self.id = writer_id or secrets.token_hex(8)
        self.registered = False
        # What was admitted before this moment was admitted under a name that is fenced.
        self.fenced_at: datetime | None = None
        self._on_renamed = on_renamed

    async def register(self, connection: AsyncConnection[TupleRow]) -> None:
        await connection.execute(FORGET_SQL)
        found = await (await connection.execute(REGISTER_SQL, (self.id, socket.gethostname()[:100]))).fetchone()
        if found is None or not found[0]:
            await self.rename(connection)
        self.registered = True

    async def beat(self, connection: AsyncConnection[TupleRow]) -> None:
        if await BEAT.value(connection, self.id.encode()) == b"0":
            await self.rename(connection)

    async def rename(self, connection: AsyncConnection[TupleRow]) -> None:
        """After a fence: a new name, under which only what is admitted from now on is charged."""
        fenced, self.id = self.id, secrets.token_hex(8)
        self.fenced_at = datetime.now(UTC)
        log.error("ledger.fenced", writer=fenced, renamed=self.id)
        if self._on_renamed is not None:
            self._on_renamed(self.id)
        await self.register(connection)

    async def close(self, connection: AsyncConnection[TupleRow]) -> None:
        await connection.execute(CLOSE_SQL, (self.id,))


async def open_writers() -> list[str]:
    """Whoever may still write: neither fenced nor closed in good order, however long it was silent.

    After PostgreSQL was away the living have not shown themselves yet. Raises DatabaseUnavailable, as those below.
    """
    return [row["id"] for row in await database.rows(OPEN_SQL)]


async def alive(within_seconds: float) -> list[str]:
    """Writers seen so recently, neither fenced nor closed."""
    return [row["id"] for row in await database.rows(ALIVE_SQL, (within_seconds,))]


async def fence(ids: Collection[str]) -> list[str]:
    """Nothing of these writers is written from now on → those that were not fenced before."""
    unknown = await database.rows(UNKNOWN_SQL, (sorted(ids),))
    known = await database.rows(FENCE_SQL, (sorted(ids),))
    return sorted(row["id"] for row in [*unknown, *known])
