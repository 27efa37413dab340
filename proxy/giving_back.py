"""A charge that stands in the ledger although it must not: one adjusting row takes it back, however often it is asked for.

Two ways lead here: a job that failed after its call was charged (`video_jobs.py`), and a row that was committed while its
caller, out of patience, was told that the answer is withheld (`settling.py`, `draining.py`).
"""

from __future__ import annotations

from uuid import UUID

import structlog

from billing import adjusting
from gateway_project.lib import database
from guardrails import loading

log = structlog.get_logger(__name__)

FREE_CLAIM_SQL = "DELETE FROM proxy_idempotencyclaim WHERE call_id = %s RETURNING call_id"


async def give_back(call_id: UUID, *, absorbed: bool) -> bool:
    """Books it and has the counters read anew. True: nothing of the call is charged; False: it has no row yet.

    `absorbed`: its provider wants to be paid all the same, and nobody was given the answer: who repeats the call under its
    idempotency key is served anew. Raises RowRefused, DatabaseUnavailable, RedisUnavailable.
    """
    row = await adjusting.row_of(call_id)
    if row is None or not row.counts:
        return row is not None
    await adjusting.take_back(row, absorbed=absorbed)
    if absorbed:
        await database.rows(FREE_CLAIM_SQL, (call_id,))
    await loading.unload(row.organization_id, adjusting.subjects_of(row))
    log.info("charge.taken_back", call_id=str(call_id), charged=row.charged_nano_usd, own=row.own_nano_usd)
    return True
