"""Answers kept where their organisation allows it: sealed, bound to their row, and gone when their time is over.

Guarantees
1. Nothing is kept for an organisation whose `content_retention_hours` is 0, and nothing longer than it said at the time.
2. Of an organisation's calls no more than its `content_sample_percent`, as it was at the time. A lower one takes nothing back.
3. The hours are asked again at every reading and every sweep: lowered, they count for what is there already.
4. Keeping never fails a call and never holds it up for long: what PostgreSQL does not take in time is not kept.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import msgspec
import structlog

from billing import ledger
from gateway_project.lib import crypto, database
from proxy import background, expiring

log = structlog.get_logger(__name__)

# Larger answers are not kept: a stream is gathered in memory until it ends.
MAX_BYTES = 8 * 1024 * 1024
KEEP_SECONDS = 2.0

KEEP_SQL = """
INSERT INTO proxy_keptanswer (call_id, organization_id, sealed, kept_at, expires_at)
VALUES (%(call_id)s, %(organization)s, %(sealed)s, now(), now() + %(time)s)
ON CONFLICT (call_id) DO NOTHING RETURNING call_id
"""
READ_SQL = """
SELECT kept.sealed FROM proxy_keptanswer kept JOIN orgs_organization o ON o.id = kept.organization_id
WHERE kept.call_id = %s AND kept.organization_id = %s AND kept.expires_at > now()
  AND kept.kept_at + make_interval(hours => o.content_retention_hours) > now()
"""
# By index, both: what has come to its end, and what is older than its organisation allows by now.
FORGET_SQL = """
WITH over AS (
    (SELECT call_id FROM proxy_keptanswer WHERE expires_at <= now() LIMIT %(batch)s)
    UNION
    (SELECT kept.call_id FROM orgs_organization o CROSS JOIN LATERAL (
        SELECT call_id FROM proxy_keptanswer
        WHERE organization_id = o.id AND kept_at <= now() - make_interval(hours => o.content_retention_hours)
        ORDER BY kept_at LIMIT %(batch)s
    ) kept LIMIT %(batch)s)
)
DELETE FROM proxy_keptanswer WHERE call_id IN (SELECT call_id FROM over)
"""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer or a whole stream, as its caller got it."""

    headers: dict[str, str]
    body: bytes


class Copy:
    """Gathers a stream as it passes, where that is wanted, up to the size that is kept."""

    def __init__(self, *, wanted: bool) -> None:
        self._parts: list[bytes] | None = [] if wanted else None
        self._room = MAX_BYTES

    def add(self, part: bytes) -> None:
        if self._parts is not None:
            self._room -= len(part)
            self._parts.append(part)
            if self._room < 0:
                self._parts = None

    def whole(self) -> bytes | None:
        """None where it is not wanted, or was too much."""
        return None if self._parts is None else b"".join(self._parts)


async def keep(call_id: UUID, answer: Answer, *, organization_id: int, hours: int, at_most: timedelta) -> bool:
    """Whether it is kept: for so many hours as the organisation allows, or `at_most` so long as it is of use."""
    if not hours or len(answer.body) > MAX_BYTES or ledger.current().away_since is not None:
        return False
    time = min(timedelta(hours=hours), at_most)
    try:
        sealed = crypto.seal(msgspec.msgpack.encode(answer), bound_to=_row(call_id))
        facts = {"call_id": call_id, "organization": organization_id, "sealed": sealed, "time": time}
        await background.waited(database.rows(KEEP_SQL, facts), of="keep an answer", seconds=KEEP_SECONDS)
    except Exception as error:  # whatever it is: the answer itself is sound
        log.warning("answer.not_kept", call_id=str(call_id), error=type(error).__name__)
        return False
    return True


async def read(call_id: UUID, *, organization_id: int) -> Answer | None:
    """None: it was not kept, its time is over, or no key of the ring opens it. Raises DatabaseUnavailable."""
    found = await database.rows(READ_SQL, (call_id, organization_id))
    if not found:
        return None
    try:
        return msgspec.msgpack.decode(crypto.unseal(bytes(found[0]["sealed"]), bound_to=_row(call_id)), type=Answer)
    except crypto.CannotDecrypt as error:
        log.error("answer.cannot_be_opened", call_id=str(call_id), error=str(error))
        return None


def in_sample(call_id: UUID, *, percent: int) -> bool:
    """Whether the answer of a call is among those that may be kept: told by its id, whose last bits are random."""
    return (call_id.int & 0xFFFF_FFFF) * 100 < percent << 32


def forget_expired(*, batch: int = expiring.BATCH) -> int:
    """Deletes what may not be kept any longer → how many answers."""
    return expiring.forget(FORGET_SQL, batch=batch)


def _row(call_id: UUID) -> str:
    return f"proxy.kept_answer:{call_id}"
