"""The ledger's writing end: one row per call, durable before the caller gets the last byte.

Group commit: finished calls gather while the previous batch is being written, and go out as one
statement, one transaction, one commit. Guarantees:
1. `record` returns only when the row is durable: committed by PostgreSQL (`Recorded`, with the transaction that did it)
   or, while PostgreSQL is away, on this host's disk (`Spooled`; proxy.draining brings it into the ledger);
2. a call id is written once: `AlreadyRecorded` tells a worker that somebody else has closed its call;
3. one bad row never takes others of its batch down;
4. a fenced writer writes nothing: its calls get `Fenced`, and it goes on under a new name (writers.py);
5. neither PostgreSQL nor the spool: `LedgerUnavailable` after a bounded time, never a hang. The row stays queued, and
   is written when either is back;
6. a committer that dies, whatever of, begins anew. What it was writing goes to the spool, which takes a call id once, so
   that nothing of it is lost or doubled; a row that cannot even be written down there is refused.

While `takes_calls` is false a call had better not begin: nobody knows when its row could be written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import psycopg
import structlog
from django.conf import settings
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from billing import rows, spool, writers
from billing.rows import UNWRITABLE, Attempt, Recorded, Row
from billing.spool import Entry, Spool
from gateway_project.lib import database, lifespan, patience
from gateway_project.lib.beats import beat
from gateway_project.lib.loops import PerLoop
from gateway_project.lib.tended import Tended, cancelled

__all__ = [
    "AlreadyRecorded",
    "Attempt",
    "Fenced",
    "Ledger",
    "LedgerUnavailable",
    "Outcome",
    "Recorded",
    "Row",
    "RowRefused",
    "Spooled",
    "confirmed",
    "current",
    "start",
    "takes_calls",
]

log = structlog.get_logger(__name__)

MAX_BATCH = 500
# Beyond this many rows waiting for PostgreSQL new calls are refused rather than remembered.
MAX_WAITING = 50_000
RETRY_SECONDS = 0.5
# Of the time that a caller waits: what is left is for the spool.
COMMIT_SHARE = 0.5
# Who is asked to end waits so long for each of PostgreSQL's answers: what it does not take by then goes to the disk.
CLOSING_SECONDS = 1.0
UNAVAILABLE = (psycopg.Error, OSError)  # a TimeoutError is an OSError

T = TypeVar("T")


class LedgerUnavailable(Exception):
    """The row is not known to be durable."""


class RowRefused(LedgerUnavailable):
    """The ledger will never take this row: nothing stands under its call id."""


class Fenced(LedgerUnavailable):
    """This worker was taken for dead when the call was admitted or recorded: nothing stands under its call id."""


class AlreadyRecorded(Exception):
    """Another row stands under this call id."""


class Spooled(NamedTuple):
    """The row is on this host's disk with these amounts; who has held something must say `spool.decide` what became of it."""

    charged_nano_usd: int
    own_nano_usd: int = 0


Outcome = Recorded | Spooled

# Only resolvers (proxy.holds) write under the call ids of others, and only rows of this status.
OWN_SQL = f"""
SELECT call_id, transaction_id, recorded_at, charged_nano_usd, {rows.OWN}
FROM billing_usagerecord WHERE call_id = ANY(%s) AND status <> 'abandoned'
""".encode()  # noqa: S608 - a constant


class _Waiting(NamedTuple):
    row: Row
    attempts: list[Attempt]
    subjects: tuple[str, ...]
    done: asyncio.Future[Outcome]

    @property
    def is_over(self) -> bool:
        """Its outcome is known; who only does not want to hear of it any more has a row all the same."""
        return self.done.done() and not self.done.cancelled()

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self, outcome: Outcome) -> None:
        if not self.done.done():
            self.done.set_result(outcome)


class Ledger:
    """The committer of one event loop. `away_since` is set while PostgreSQL does not take rows."""

    def __init__(self, *, writer_id: str | None = None, on_renamed: Callable[[str], None] | None = None) -> None:
        self.writer = writers.Writer(writer_id, on_renamed=on_renamed)
        self.spool = Spool(self.writer.id)
        self.away_since: datetime | None = None
        self._queue: list[_Waiting] = []
        # Of the queue, from its beginning: what the committer is at.
        self._writing: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._connection: AsyncConnection[TupleRow] | None = None
        self._connecting = asyncio.Lock()
        # Calls whose insert may have been committed although the connection broke.
        self._uncertain: set[UUID] = set()
        self._given_up: set[asyncio.Task[Any]] = set()
        # Connections that are being closed.
        self._behind: set[asyncio.Task[None]] = set()
        # Done: whoever waits for PostgreSQL at this moment has waited long enough.
        self._hurry: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Neither PostgreSQL nor the disk took the last batch.
        self._stuck = False
        self._committer = Tended(self._write_forever, name="ledger committer")
        self._watch = Tended(self._watch_forever, name="ledger watch")
        lifespan.on_shutdown(self.close)

    @property
    def writer_id(self) -> str:
        return self.writer.id

    @property
    def takes_calls(self) -> bool:
        """Whether what a call that begins now will cost can be recorded, as far as anybody knows."""
        return self._committer.runs and not self._stuck and not self._is_full

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= MAX_WAITING or (self.away_since is not None and self.spool.is_full)

    async def record(self, row: Row, attempts: list[Attempt]) -> Outcome:
        """Waits until the row is durable. Raises AlreadyRecorded, RowRefused, Fenced, LedgerUnavailable."""
        return await confirmed(self.record_later(row, attempts))

    def record_later(self, row: Row, attempts: list[Attempt], *, subjects: tuple[str, ...] = ()) -> asyncio.Future[Outcome]:
        """Queues the row without waiting; the future tells when it is durable. Raises LedgerUnavailable.

        `subjects` are what the call holds money on, for whoever settles it from the spool.
        """
        if self._committer.stopped or self._is_full:
            raise LedgerUnavailable("the ledger takes no more rows")
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        # A row nobody waits for may fail without a reader of its exception.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._queue.append(_Waiting(row, attempts, subjects, done))
        self._arrived.set()
        return done

    async def connect(self) -> None:
        """Connects and registers, unless it has. Raises one of UNAVAILABLE, in bounded time."""
        await self._bounded(self._connected())

    async def close(self) -> None:
        """Writes what is queued, as long as PostgreSQL or the disk takes it, then ends. A spool with rows stays.

        A PostgreSQL that hangs costs a few times CLOSING_SECONDS; where the disk takes nothing either, LEDGER_TIMEOUT_SECONDS.
        """
        if not await self._is_written(within=CLOSING_SECONDS):
            self._hurry.set_result(None)
            self._hurry = asyncio.get_running_loop().create_future()
            await self._is_written(within=settings.LEDGER_TIMEOUT_SECONDS)
        await self._watch.stop()
        await self._committer.stop()
        with contextlib.suppress(*UNAVAILABLE):
            if self._connection is not None:
                await self._bounded(self.writer.close(self._connection), seconds=CLOSING_SECONDS)
        self._disconnect()
        await cancelled(set(self._given_up))
        await asyncio.gather(*self._behind, return_exceptions=True)
        if not self.spool.undecided:
            self.spool.close()

    async def _is_written(self, *, within: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._queue:
                    await asyncio.sleep(0.01)
        return not self._queue

    # --- the committer -------------------------------------------------------------------------
    async def _write_forever(self) -> None:
        await self._take_over()
        while True:
            await self._arrived.wait()
            self._writing = self._queue[:MAX_BATCH]
            self._stuck = not await self._keep(self._writing)
            if self._stuck:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._forget_written()

    async def _take_over(self) -> None:
        """What a committer that died was writing: it may be committed in part, and one row may be what it died of."""
        self._uncertain |= {waiting.row.call_id for waiting in self._writing if not waiting.is_over}
        if await self._keep_on_disk(self._writing):
            self._forget_written()

    def _forget_written(self) -> None:
        del self._queue[: len(self._writing)]
        self._writing = []
        if not self._queue:
            self._arrived.clear()

    async def _keep(self, batch: list[_Waiting]) -> bool:
        """Each row of the batch is durable or refused; False: neither PostgreSQL nor the disk takes it now."""
        if self.away_since is None and await self._commit(self._open(batch)):
            return True
        return await self._keep_on_disk(batch)

    async def _keep_on_disk(self, batch: list[_Waiting]) -> bool:
        """The same without PostgreSQL."""
        try:
            await self._spool(self._open(batch))
        except OSError as error:
            log.error("spool.unavailable", rows=len(self._queue), error=type(error).__name__, reason=error.strerror)
            return False
        return True

    def _open(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Those that are not written yet, one by one, or refused."""
        return [waiting for waiting in batch if not waiting.is_over and not self._was_fenced(waiting)]

    async def _commit(self, batch: list[_Waiting]) -> bool:
        """False: PostgreSQL is away. A connection that broke meanwhile says nothing of that: it is tried anew, once."""
        for old in (self._connection is not None, False):
            try:
                await self._write(batch)
            except UNAVAILABLE as error:
                self._uncertain |= {waiting.row.call_id for waiting in batch}
                if not old or isinstance(error, TimeoutError):
                    self._lose(error)
                    return False
                self._disconnect()
            else:
                return True
        return False

    def _was_fenced(self, waiting: _Waiting) -> bool:
        """Admitted under a name that is fenced: what it holds may count nowhere any more, so it must not be charged."""
        fenced_at = self.writer.fenced_at
        if fenced_at is None or not waiting.row.counts or waiting.row.admitted_at >= fenced_at:
            return False
        waiting.fail(Fenced(str(waiting.row.call_id)))
        return True

    async def _write(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            await self._bounded(self._insert(batch))
        except UNWRITABLE as error:
            if len(batch) == 1:
                _refuse(batch[0], error)
                return
            for waiting in batch:
                await self._write([waiting])

    async def _insert(self, batch: list[_Waiting]) -> None:
        connection = await self._connected()
        rows_given = [(waiting.row, waiting.attempts) for waiting in batch]
        inserted = await rows.insert(connection, rows_given, writer_id=self.writer.id)
        written = inserted.written | await self._own({waiting.row.call_id for waiting in batch}.difference(inserted.written))
        self._uncertain -= {waiting.row.call_id for waiting in batch}
        for waiting in batch:
            call_id = waiting.row.call_id
            if call_id in written:
                waiting.succeed(written[call_id])
            else:
                waiting.fail(AlreadyRecorded(str(call_id)) if inserted.writer_alive else Fenced(str(call_id)))
        if not inserted.writer_alive:
            await self.writer.rename(connection)

    async def _own(self, conflicting: set[UUID]) -> dict[UUID, Recorded]:
        """Rows in conflict with ourselves: committed by an earlier try whose answer was lost."""
        asked = self._uncertain & conflicting
        if not asked:
            return {}
        cursor = await (await self._connected()).execute(OWN_SQL, (list(asked),))
        return {call_id: Recorded(*rest) for call_id, *rest in await cursor.fetchall()}

    async def _spool(self, batch: list[_Waiting]) -> None:
        """Raises OSError. What was written of the batch before is written again: a call id is replayed once."""
        lines: list[tuple[_Waiting, bytes, Spooled]] = []
        for waiting in batch:
            try:
                line = spool.encode(Entry(waiting.row, waiting.attempts, waiting.subjects))
            except Exception as error:  # whatever it was, it is the row's own fault: there are only rows and the encoder
                self._uncertain.discard(waiting.row.call_id)
                _refuse(waiting, error)
            else:
                lines.append((waiting, line, Spooled(waiting.row.charged_nano_usd, waiting.row.own_nano_usd)))
        if not lines:
            return
        asked = {waiting.row.call_id for waiting, *_ in lines if waiting.subjects and not waiting.done.done()}
        self.spool.undecided |= asked
        try:
            await self.spool.append([line for _, line, _ in lines])
        except OSError:
            self.spool.undecided -= asked
            raise
        for waiting, _, spooled in lines:
            self._uncertain.discard(waiting.row.call_id)
            waiting.succeed(spooled)

    # --- the connection ------------------------------------------------------------------------
    async def _watch_forever(self) -> None:
        """Says each second that this writer lives, and looks for a PostgreSQL that is away."""
        while True:
            await beat(writers.BEAT_SECONDS if self.away_since is None else RETRY_SECONDS)
            try:
                await self._bounded(self._beat())
            except UNAVAILABLE as error:
                self._lose(error)

    async def _beat(self) -> None:
        fresh = self._connection is None
        connection = await self._connected()
        if not fresh:
            await self.writer.beat(connection)
        if self.away_since is not None:
            log.warning("ledger.back", away_since=self.away_since.isoformat(), spooled=self.spool.rows)
            self.away_since = None

    async def _connected(self) -> AsyncConnection[TupleRow]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                connection = await AsyncConnection.connect(database.conninfo(), autocommit=True, connect_timeout=5)
                try:
                    await self.writer.register(connection)
                    await rows.INSERT.prepare(connection)
                except BaseException:
                    await connection.close()
                    raise
                self._connection = connection
            return self._connection

    def _lose(self, error: Exception) -> None:
        if self.away_since is None:
            log.error("ledger.away", rows=len(self._queue), error=type(error).__name__)
            self.away_since = datetime.now(UTC)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _remember(asyncio.get_running_loop().create_task(self._close(connection, after=list(self._given_up))), self._behind)

    async def _close(self, connection: AsyncConnection[TupleRow], *, after: list[asyncio.Task[Any]]) -> None:
        """A connection is closed when nothing waits on its socket any more."""
        if after:
            await asyncio.wait(after)
        await connection.close()

    async def _bounded(self, work: Coroutine[Any, Any, T], *, seconds: float | None = None) -> T:
        """Raises TimeoutError at the very time: psycopg would ask a silent server to agree to a cancellation first."""
        seconds = settings.LEDGER_TIMEOUT_SECONDS * COMMIT_SHARE if seconds is None else seconds
        task = asyncio.get_running_loop().create_task(work)
        either: set[asyncio.Future[Any]] = {task, self._hurry}
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                _remember(task, self._given_up)
        if not task.done():
            raise TimeoutError("PostgreSQL did not answer in time")
        return task.result()


def _remember(task: asyncio.Task[Any], among: set[asyncio.Task[Any]]) -> None:
    """Until it ends, however that is."""
    among.add(task)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    task.add_done_callback(among.discard)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    log.error("ledger.row_refused", call_id=str(waiting.row.call_id), error=type(error).__name__)
    waiting.fail(RowRefused(f"the ledger refused the row: {type(error).__name__}"))


async def confirmed(done: asyncio.Future[Outcome]) -> Outcome:
    """Waits for a queued row, for a bounded time; the row itself stays queued. Raises as `record`."""
    try:
        with patience.within(settings.LEDGER_TIMEOUT_SECONDS):
            return await asyncio.shield(done)
    except TimeoutError as error:
        raise LedgerUnavailable("the ledger did not confirm the row in time") from error


# The ledger of the running event loop.
current = PerLoop(Ledger)


def takes_calls() -> bool:
    """`Ledger.takes_calls` of the running event loop's ledger; one that is not open yet does."""
    books = current.get()
    return books is None or books.takes_calls


async def start(*, writer_id: str, on_renamed: Callable[[str], None]) -> Ledger:
    """The ledger of a worker, registered before its first call under the name that its holds carry.

    `on_renamed` hears the new name after a fence. PostgreSQL away: it starts all the same, and registers when it is back.
    """
    books = current.put(Ledger(writer_id=writer_id, on_renamed=on_renamed))
    with contextlib.suppress(*UNAVAILABLE):
        await books.connect()
    return books
