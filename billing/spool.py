"""The spool: rows on this host's own disk while PostgreSQL is away.

One append-only file per writer. Guarantees:
1. `append` returns only after the rows are on the disk (one fsync per batch);
2. a line is read back whole or not at all: each carries its checksum, a torn tail is dropped, and what else cannot be read
   is kept for a person;
3. who writes a file holds its lock (flock), and the lock ends with the process. A file whose lock is free belongs to the
   dead, and to whoever takes the lock next;
4. a file goes only when all of its rows are in the ledger and settled. Replaying one twice changes nothing;
5. a file that cannot be read (of another user, on a broken disk) stays where it is and is told in the log; nobody waits for it.

A row whose answer was withheld after all is named by a line of its own (`W`): whoever replays makes it free.
What becomes of the holds is not known here: proxy.draining replays and settles.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import UUID
from weakref import WeakSet

import msgspec
import structlog
from django.conf import settings

from billing.rows import Attempt, Row

log = structlog.get_logger(__name__)

# Of the living; of the dead; of the dead and all in the ledger, but not all settled yet.
OWN, LEFT, WRITTEN = ".spool", ".left", ".written"
ROW, WITHHELD = b"R", b"W"
BATCH = 500
TELL_SECONDS = 60.0

Found = TypeVar("Found")


class SpoolFull(OSError):
    """SPOOL_MAX_BYTES of this writer are used."""


class Entry(msgspec.Struct, frozen=True):
    """A row, and the subjects its call holds money on: with them anybody can settle it. No subjects: nothing is held."""

    row: Row
    attempts: list[Attempt]
    subjects: tuple[str, ...] = ()


class Backlog(NamedTuple):
    """What waits on this host. `since` is when the oldest file began."""

    rows: int
    files: int
    since: datetime | None


# --- lines -------------------------------------------------------------------------------------
def encode(entry: Entry) -> bytes:
    """Raises UnicodeError, OverflowError for a row that JSON cannot carry."""
    return _line(ROW, msgspec.json.encode(entry))


def encode_withheld(call_id: UUID) -> bytes:
    return _line(WITHHELD, call_id.hex.encode())


def _line(kind: bytes, payload: bytes) -> bytes:
    """`<crc32 of the rest> <kind> <payload>` and a newline, which JSON never holds."""
    rest = kind + b" " + payload
    return b"%08x %b\n" % (zlib.crc32(rest), rest)


def decode(line: bytes) -> Entry | UUID | None:
    """A row, the id of one that was withheld, or None for a line that is not whole."""
    checksum, _, rest = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(rest):
        return None
    kind, _, payload = rest.partition(b" ")
    try:
        return msgspec.json.decode(payload, type=Entry) if kind == ROW else UUID(hex=payload.decode())
    except (msgspec.MsgspecError, ValueError):
        return None


# --- files -------------------------------------------------------------------------------------
class Lines:
    """Reading: of one's own file as well as of one that somebody left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.drained = 0
        self.withheld: set[UUID] = set()
        # Where lines begin that are kept for a person already: a file may be read more than once.
        self._told: set[int] = set()

    async def next_batch(self, *, until: int, start: int | None = None) -> tuple[list[Entry], int]:
        """What follows `start` (where nothing is said, `drained`), and the offset behind it."""
        return await asyncio.to_thread(self._read, self.drained if start is None else start, until)

    async def find_withheld(self) -> None:
        """Before anything of a file is replayed: a later line may make an earlier row free."""
        self.withheld |= await asyncio.to_thread(lambda: {found for found in self._decoded() if isinstance(found, UUID)})

    def _decoded(self) -> Iterator[Entry | UUID | None]:
        with self.path.open("rb") as file:
            for line in file:
                yield decode(line)

    def _read(self, start: int, until: int) -> tuple[list[Entry], int]:
        entries: list[Entry] = []
        with self.path.open("rb") as file:
            at = file.seek(start)
            while at < until and len(entries) < BATCH and (line := file.readline()):
                found = decode(line)
                if isinstance(found, Entry):
                    entries.append(found)
                elif found is None:
                    self._tell(line, at)
                at += len(line)
        return entries, at

    def _tell(self, line: bytes, at: int) -> None:
        """Of a line that is no row. One without an end was being written when the process, or the power, went: nobody was
        answered on it. Of another an answer may have gone out: the disk has spoiled it, or another version has written it.
        """
        is_torn = not line.endswith(b"\n")
        if at in self._told:
            return
        log.error("spool.torn_line" if is_torn else "spool.unknown_line", file=self.path.name, bytes=len(line))
        if not is_torn and self.path.suffix != WRITTEN:
            _keep([line])
        self._told.add(at)


_open: WeakSet[Spool] = WeakSet()


async def close_all() -> None:
    """At an orderly end, when nothing is settled any more: what is left is anybody's to drain."""
    for own in list(_open):
        own.close()


class Spool(Lines):
    """One writer's own file, made when it is first needed."""

    def __init__(self, writer_id: str) -> None:
        super().__init__(Path(settings.SPOOL_FOLDER) / f"{writer_id}{OWN}")
        self.size = 0
        self.rows = 0
        self.since: datetime | None = None
        # Rows whose hold is being shrunk at this moment: whether their answer goes out is not known yet.
        self.undecided: set[UUID] = set()
        self._descriptor: int | None = None
        self._writing = asyncio.Lock()
        _open.add(self)

    @property
    def is_full(self) -> bool:
        return self.size >= settings.SPOOL_MAX_BYTES

    @property
    def is_drainable(self) -> bool:
        return self.rows > 0 and not self.undecided

    async def append(self, entries: Sequence[bytes]) -> None:
        """Encoded entries, durable when it returns. Raises SpoolFull, or OSError where the disk does not take them."""
        if self.is_full:
            raise SpoolFull(f"the spool holds {self.size} bytes")
        await self._append(b"".join(entries), rows=len(entries))

    def decide(self, call_id: UUID) -> None:
        """What becomes of this row's answer is known now: it may be replayed."""
        self.undecided.discard(call_id)

    async def withhold(self, call_id: UUID) -> None:
        """The answer of this row was not given out: it will be free. Raises OSError; this process knows it even then."""
        self.withheld.add(call_id)
        await self._append(encode_withheld(call_id), rows=0)

    async def clear(self, *, drained: int) -> bool:
        """Everything up to `drained` is settled; the file is emptied unless more has come."""
        async with self._writing:
            self.drained = drained
            if drained < self.size or self.undecided or self._descriptor is None:
                return False
            await asyncio.to_thread(_cut, self._descriptor, 0)
            self.size = self.drained = self.rows = 0
            self.since = None
            self.withheld.clear()
            return True

    def close(self) -> None:
        """Gives the lock back: what is left is anybody's to drain."""
        if self._descriptor is not None:
            if not self.rows:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    async def _append(self, text: bytes, *, rows: int) -> None:
        """Once begun it is finished, though whoever waits for it is cancelled: what is known of the file must be true."""
        work = asyncio.get_running_loop().create_task(self._append_at_once(text, rows))
        work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.shield(work)

    async def _append_at_once(self, text: bytes, rows: int) -> None:
        async with self._writing:
            if self._descriptor is None:
                self._descriptor = await asyncio.to_thread(_create, self.path)
            try:
                await asyncio.to_thread(_write, self._descriptor, text)
            except OSError:
                # Half a batch must not stand before the next one.
                await asyncio.to_thread(_cut, self._descriptor, self.size)
                raise
            self.size += len(text)
            if rows:
                self.rows += rows
                self.since = self.since or datetime.now(UTC)


class Leftover(Lines):
    """A file whose writer is gone, locked by this process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__(path)
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    @property
    def is_written(self) -> bool:
        """Whether all of it stands in the ledger."""
        return self.path.suffix == WRITTEN

    def note_withheld(self, call_id: UUID) -> None:
        """As the owner would have: whoever goes on after us must not take it for answered. Raises OSError."""
        with self.path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            torn = file.read(1) not in (b"\n", b"")
            file.write((b"\n" if torn else b"") + encode_withheld(call_id))
            file.flush()
            os.fsync(file.fileno())
        self.withheld.add(call_id)

    def written(self) -> None:
        self.path = self.path.rename(self.path.with_suffix(WRITTEN))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._descriptor)


def leftovers() -> Generator[Leftover, None, None]:
    """Takes over the files of dead writers, one after the other; each is given back when the next is asked for."""
    for path in _files():
        taken = _take_over(path)
        if taken is not None:
            try:
                yield taken
            finally:
                taken.close()


def pending_of_the_dead() -> bool:
    """Whether dead writers of this host left rows that may not be in the ledger yet.

    What cannot be read does not count: it would keep counters from coming into force until a person removes it.
    """
    return any(_of_each(lambda path: path.suffix != WRITTEN and _size(path) > 0 and _is_pending(path)))


def skipped(path: Path, error: OSError) -> None:
    """Tells of a file that is left as it is, once a minute."""
    now = time.monotonic()
    if now - _told.get(path, -TELL_SECONDS) >= TELL_SECONDS:
        _told[path] = now
        log.error("spool.unreadable", file=path.name, error=type(error).__name__, reason=str(error))


# When each was last told of.
_told: dict[Path, float] = {}


def backlog() -> Backlog:
    """What waits on this host, whoever wrote it. Reads only what has been written since it was last asked."""
    files = [found for found in _of_each(lambda path: (_count(path), _began(path)) if _size(path) else None) if found]
    since = [datetime.fromtimestamp(began, UTC) for _, began in files]
    return Backlog(sum(rows for rows, _ in files), len(files), min(since, default=None))


def takes_rows() -> bool:
    """Whether this host's disk takes rows at this moment."""
    folder = Path(settings.SPOOL_FOLDER)
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"?")
        probe.unlink()
    except OSError:
        return False
    return True


def _files() -> list[Path]:
    """In the order in which they were begun, as far as names tell: any order is right."""
    folder = Path(settings.SPOOL_FOLDER)
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith((OWN, LEFT, WRITTEN)))
    except FileNotFoundError:
        return []
    except OSError as error:
        skipped(folder, error)
        return []


def _of_each(look: Callable[[Path], Found]) -> list[Found]:
    """What `look` finds of each file: of all anew where one went meanwhile, which may have got the next of its names."""
    while True:
        paths = _files()
        found = [look(path) for path in paths]
        if set(paths) <= set(_files()):
            return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        skipped(path, error)
        return 0


def _create(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_same(path, descriptor):
            break
        os.close(descriptor)  # somebody took the empty file for one that was left
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return descriptor


def _write(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fdatasync(descriptor)


def _cut(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)
    os.fsync(descriptor)


def _take_over(path: Path) -> Leftover | None:
    """Under its lock the file gets the name of one that was left: so it stays one, should this process die as well."""
    try:
        descriptor = _open_to_read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        skipped(path, error)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_same(path, descriptor):
            raise BlockingIOError
        left = path if path.suffix == WRITTEN else path.with_suffix(LEFT)
        path.rename(left)
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, (BlockingIOError, FileNotFoundError)):
            skipped(path, error)
        return None
    return Leftover(left, descriptor)


def _open_to_read(path: Path) -> int:
    """Raises OSError for what is no file that can be read."""
    # Of a named pipe nobody writes to, opening would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.pread(descriptor, 1, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_pending(path: Path) -> bool:
    try:
        descriptor = _open_to_read(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        skipped(path, error)
        return False
    try:
        if path.suffix == OWN:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its writer lives
    finally:
        os.close(descriptor)
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


# Per file: inode, bytes counted, lines in them.
_counted: dict[Path, tuple[int, int, int]] = {}


def _count(path: Path) -> int:
    """Rows of a file; the few lines that say "withheld" count as well."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            inode, counted, rows = _counted.get(path, (status.st_ino, 0, 0))
            if inode != status.st_ino or counted > status.st_size:
                counted = rows = 0
            file.seek(counted)
            rows += sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return 0
    except OSError as error:
        skipped(path, error)
        return 0
    _forget(keep=path)
    _counted[path] = (status.st_ino, status.st_size, rows)
    return rows


def _forget(*, keep: Path) -> None:
    for path in [path for path in _counted if path != keep and not path.exists()]:
        del _counted[path]


def _began(path: Path) -> float:
    """When its first row was admitted; where it has no whole line yet, when it was written last."""
    try:
        with path.open("rb") as file:
            first = decode(file.readline())
            return first.row.admitted_at.timestamp() if isinstance(first, Entry) else os.fstat(file.fileno()).st_mtime
    except OSError:  # gone, or told of already
        return datetime.now(UTC).timestamp()


def keep_refused(entries: Sequence[Entry]) -> None:
    """Rows that answers went out on and the ledger will never take: kept for a person to look at. Raises OSError."""
    if entries:
        _keep([encode(entry) for entry in entries])


def _keep(lines: Sequence[bytes]) -> None:
    with (Path(settings.SPOOL_FOLDER) / "refused.lines").open("ab") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
