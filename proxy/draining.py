"""What waited in spools: brought into the ledger, then settled, then forgotten. In that order, always.

Each worker drains its own spool once PostgreSQL is back, and those that dead workers of its host left. Any step may be
repeated after a crash, by anybody: a call id takes one row, a hold is settled once.
* A row whose answer was withheld is written as failed and free.
* A dead worker's row whose hold was never marked (guardrails.shrinking) belongs to an answer that never went out: likewise.
* A row that was written by an earlier try is settled with what stands there. Where that was so long ago that a settlement
  may have been forgotten, nothing is added: the counters are read from the ledger anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import structlog
from prometheus_client import Gauge

from billing import ledger, replaying, spool, writers
from billing.replaying import Standing
from billing.spool import Entry, Lines
from gateway_project.lib import lifespan
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from guardrails import admission, loading, shrinking
from proxy import recording

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.5
# Looking at other workers, and at what the dead left, costs more.
LOOK_SECONDS = 2.0
SILENT_SECONDS = 5.0
CERTAIN = timedelta(seconds=admission.TOMBSTONE_SECONDS / 2)

SPOOLED = Gauge("gatehouse_spooled_rows", "Rows of living workers that wait for PostgreSQL", multiprocess_mode="livesum")
WRITERS = Gauge("gatehouse_ledger_writers", "Workers that may write to the ledger", multiprocess_mode="livemax")


def start() -> None:
    """Drains in the background of this event loop until it ends."""
    task = asyncio.get_running_loop().create_task(_drain_forever())

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    lifespan.on_shutdown(stop)


async def _drain_forever() -> None:
    looked_at = 0.0
    clock = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        books = ledger.current()
        SPOOLED.set(books.spool.rows)
        if books.away_since is not None:
            continue
        try:
            await drain_own()
            if clock.time() - looked_at > LOOK_SECONDS:
                looked_at = clock.time()
                await drain_the_dead()
                WRITERS.set(len(await writers.alive(SILENT_SECONDS)))
        except (DatabaseUnavailable, RedisUnavailable, OSError) as error:
            log.warning("spool.waits", error=type(error).__name__, rows=books.spool.rows)


async def drain_own() -> int:
    """What this worker has spooled, but for rows whose answer is being decided → how many rows."""
    own = ledger.current().spool
    if not own.is_drainable:
        return 0
    drained = await _drain(own, until=own.size, dead=False)
    await own.clear(drained=own.drained)
    return drained


async def drain_the_dead() -> int:
    """What dead workers of this host left → how many rows. Raises DatabaseUnavailable, RedisUnavailable, OSError."""
    drained = 0
    for left in spool.leftovers():
        await left.find_withheld()
        drained += await _drain(left, until=left.size, dead=True)
        left.remove()
    return drained


async def _drain(lines: Lines, *, until: int, dead: bool) -> int:
    rows = 0
    while lines.drained < until:
        entries, offset = await lines.next_batch(until=until)
        for entry in entries:
            if entry.row.call_id in lines.withheld or (dead and await _was_never_answered(entry)):
                recording.withhold(entry.row)
        await _bring_home(entries)
        if offset == lines.drained:
            break  # shorter than it was said to be
        lines.drained = offset
        rows += len(entries)
    if rows:
        log.warning("spool.drained", file=lines.path.name, rows=rows)
    return rows


async def _was_never_answered(entry: Entry) -> bool:
    return bool(entry.subjects) and await shrinking.claim(entry.row.organization_id, entry.row.call_id)


async def _bring_home(entries: list[Entry]) -> None:
    """Into the ledger in one commit, then settled, then unmarked."""
    if not entries:
        return
    standing = await replaying.write([(entry.row, entry.attempts) for entry in _once(entries)])
    spool.keep_refused([entry for entry in entries if entry.row.call_id not in standing])
    await asyncio.gather(*(_settle(entry, standing.get(entry.row.call_id)) for entry in entries if entry.subjects))
    settled: defaultdict[int, list[UUID]] = defaultdict(list)
    for entry in entries:
        if entry.subjects:
            settled[entry.row.organization_id].append(entry.row.call_id)
    await asyncio.gather(*(shrinking.unmark(organization, call_ids) for organization, call_ids in settled.items()))


def _once(entries: list[Entry]) -> list[Entry]:
    """A batch that reached the disk only in part was written again: the later line counts."""
    return list({entry.row.call_id: entry for entry in entries}.values())


async def _settle(entry: Entry, standing: Standing | None) -> None:
    row = entry.row
    nothing = [0] * len(entry.subjects)
    if standing is None:
        await admission.settle_hold(row.organization_id, row.call_id, entry.subjects, nothing, 0, None)
        return
    recorded = standing.recorded
    if recorded.charged_nano_usd < row.charged_nano_usd:
        log.error("spool.closed_by_others", call_id=str(row.call_id), status=standing.status, lost=row.charged_nano_usd)
    if standing.age > CERTAIN:
        await admission.settle_hold(row.organization_id, row.call_id, entry.subjects, nothing, 0, None)
        await loading.unload(row.organization_id, entry.subjects)
        return
    amounts = [recorded.charged_nano_usd] * len(entry.subjects)
    await admission.settle_hold(
        row.organization_id, row.call_id, entry.subjects, amounts, recorded.transaction_id, recorded.recorded_at
    )
