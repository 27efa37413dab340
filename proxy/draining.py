"""What waited in spools: brought into the ledger, then settled, then forgotten. In that order, always.

Each worker drains its own spool once PostgreSQL is back, and those that dead workers of its host left. Any step may be
repeated after a crash, by anybody: a call id takes one row, a hold is settled once.
* A row whose answer was withheld is written as failed and free.
* A dead worker's row whose hold was never marked (guardrails.shrinking) belongs to an answer that never went out: likewise.
* A row whose answer was withheld, but which an earlier try has written with its charge, is taken back (proxy/giving_back.py).
* A row that was written by an earlier try is settled with what stands there. Where that was so long ago that a settlement
  may have been forgotten, nothing is added: the counters are read from the ledger anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog
from prometheus_client import Gauge

from billing import ledger, replaying, spool, writers
from billing.ledger import RowRefused
from billing.replaying import Standing
from billing.spool import Entry, Leftover, Lines
from gateway_project.lib import lifespan
from gateway_project.lib.beats import beat
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from gateway_project.lib.tended import Tended
from guardrails import admission, loading, shrinking
from proxy import giving_back, recording

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.5
# Looking at other workers, and at what the dead left, costs more.
LOOK_SECONDS = 2.0
# As often as anybody collects metrics.
COUNT_SECONDS = 15.0
SILENT_SECONDS = 5.0
CERTAIN = timedelta(seconds=admission.TOMBSTONE_SECONDS / 2)

SPOOLED = Gauge("gatehouse_spooled_rows", "Rows of living workers that wait for PostgreSQL", multiprocess_mode="livesum")
WRITERS = Gauge("gatehouse_ledger_writers", "Workers that may write to the ledger", multiprocess_mode="livemax")


def start() -> None:
    """Drains in the background of this event loop until it ends."""
    lifespan.on_shutdown(Tended(_drain_forever, name="spool draining").stop)


async def _drain_forever() -> None:
    looked_at = counted_at = 0.0
    clock = asyncio.get_running_loop()
    while True:
        books = ledger.current()
        await beat(EVERY_SECONDS if books.spool.rows else LOOK_SECONDS / 2)
        SPOOLED.set(books.spool.rows)
        if books.away_since is not None:
            continue
        try:
            if clock.time() - looked_at > LOOK_SECONDS:
                looked_at = clock.time()
                await drain_the_dead()  # first: what this worker has spooled cannot be settled before these rows are written
            await drain_own()
            if clock.time() - counted_at > COUNT_SECONDS:
                counted_at = clock.time()
                WRITERS.set(len(await writers.alive(SILENT_SECONDS)))
        except (DatabaseUnavailable, RedisUnavailable, OSError) as error:
            log.warning("spool.waits", error=type(error).__name__, rows=books.spool.rows)


async def drain_own() -> int:
    """What this worker has spooled, but for rows whose answer is being decided → how many rows."""
    own = ledger.current().spool
    if not own.is_drainable:
        return 0
    drained = await _drain(own, until=own.size)
    await own.clear(drained=own.drained)
    return drained


async def drain_the_dead() -> int:
    """What dead workers of this host left → how many rows. Raises DatabaseUnavailable, RedisUnavailable.

    All files are written before any is settled: settling waits for a generation of counters to come into force, and that
    waits for all these rows. A file that cannot be read, or not be written to, stays as it is: the others do not wait.
    """
    await _each_leftover(_write_leftover)
    return await _each_leftover(_settle_leftover)


async def _each_leftover(step: Callable[[Leftover], Awaitable[int]]) -> int:
    rows = 0
    for left in spool.leftovers():
        try:
            rows += await step(left)
        except OSError as error:
            spool.skipped(left.path, error)
    return rows


async def _write_leftover(left: Leftover) -> int:
    if not left.is_written:
        await left.find_withheld()
        left.withheld |= await _never_answered(left)
        await _each_batch(left, _written)
        left.written()
    return 0


async def _settle_leftover(left: Leftover) -> int:
    if not left.is_written:
        return 0  # it could not be, or has come only now
    await left.find_withheld()
    drained = await _drain(left, until=left.size)
    left.remove()
    return drained


async def _drain(lines: Lines, *, until: int) -> int:
    rows = 0
    while lines.drained < until:
        entries, offset = await lines.next_batch(until=until)
        await _bring_home(entries, lines.withheld)
        if offset == lines.drained:
            break  # shorter than it was said to be
        lines.drained = offset
        rows += len(entries)
    if rows:
        log.warning("spool.drained", file=lines.path.name, rows=rows)
    return rows


async def _each_batch(left: Leftover, step: Callable[[list[Entry], set[UUID]], Awaitable[object]]) -> None:
    """From the beginning to the end of a file; what of it is drained stays as it was."""
    at = 0
    while at < left.size:
        entries, offset = await left.next_batch(until=left.size, start=at)
        await step(entries, left.withheld)
        if offset == at:
            return
        at = offset


async def _never_answered(left: Leftover) -> set[UUID]:
    """Calls whose holds were never marked. Where Redis cannot tell they are taken for answered."""
    found: set[UUID] = set()

    async def look(entries: list[Entry], _: set[UUID]) -> None:
        for entry in entries:
            if entry.subjects and await shrinking.claim(entry.row.organization_id, entry.row.call_id):
                found.add(entry.row.call_id)

    with contextlib.suppress(RedisUnavailable):
        await _each_batch(left, look)
    for call_id in found:
        left.note_withheld(call_id)
    return found


async def _written(entries: list[Entry], withheld: set[UUID]) -> dict[UUID, Standing]:
    """Each call of the batch as it stands in the ledger; the refused are kept for a person."""
    for entry in entries:
        if entry.row.call_id in withheld:
            recording.withhold(entry.row)
    if not entries:
        return {}
    standing = await replaying.write([(entry.row, entry.attempts) for entry in _once(entries)])
    spool.keep_refused([entry for entry in entries if entry.row.call_id not in standing])
    return standing


async def _bring_home(entries: list[Entry], withheld: set[UUID]) -> None:
    """Into the ledger in one commit, then settled."""
    standing = await _written(entries, withheld)
    await asyncio.gather(*(_settle(entry, standing.get(entry.row.call_id)) for entry in entries if entry.subjects))


def _once(entries: list[Entry]) -> list[Entry]:
    """A batch that reached the disk only in part was written again: the later line counts."""
    return list({entry.row.call_id: entry for entry in entries}.values())


async def _settle(entry: Entry, standing: Standing | None) -> None:
    row = entry.row
    if standing is None:
        await admission.settle_hold(row.organization_id, row.call_id, entry.subjects)
        return
    recorded = standing.recorded
    lost = row.charged_nano_usd + row.own_nano_usd
    if recorded.charged_nano_usd + recorded.own_nano_usd < lost:
        log.error("spool.closed_by_others", call_id=str(row.call_id), status=standing.status, lost=lost)
    if standing.age > CERTAIN:
        # In this order: between the two the hold still counts, so no sum is ever too low.
        await loading.unload(row.organization_id, entry.subjects)
        await admission.settle_hold(row.organization_id, row.call_id, entry.subjects)
    else:
        await admission.settle_hold(
            row.organization_id,
            row.call_id,
            entry.subjects,
            charged=recorded.charged_nano_usd,
            own=recorded.own_nano_usd,
            transaction_id=recorded.transaction_id,
            recorded_at=recorded.recorded_at,
        )
    if not row.counts and (recorded.charged_nano_usd or recorded.own_nano_usd):
        with contextlib.suppress(RowRefused):  # told in the log: the others must not wait for it
            await giving_back.give_back(row.call_id, absorbed=True)
