"""Where a run of the tests keeps the files of its servers: in memory, where there is room.

PostgreSQL keeps each table and each index in files of its own, and tests make and empty tables all the time: on a disk's file
system that takes a fiftieth of the run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

MEMORY = Path("/dev/shm")  # noqa: S108 - Linux' file system in memory, sticky as /tmp is
NAME = "gatehouse-test-"
# What a run takes, several times over.
ROOM_BYTES = 4 << 30


def make(memory: Path = MEMORY) -> tuple[Path, IO[bytes]]:
    """A new folder, and the lock that tells others that it is in use, for as long as this process or one forked from it lives."""
    if fits := has_room(memory):
        remove_abandoned(memory)
    new = Path(tempfile.mkdtemp(prefix=f".{NAME}", dir=memory if fits else None))
    lock = _locked(new)
    return new.rename(new.with_name(new.name[1:])), lock  # not earlier: another run would take it for abandoned


def has_room(memory: Path) -> bool:
    """A container has 64 MB there if nobody says otherwise, and may run no program."""
    try:
        found = os.statvfs(memory)
    except OSError:
        return False
    free = found.f_bavail * found.f_frsize
    return free >= ROOM_BYTES and not found.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK | os.X_OK)


def remove_abandoned(memory: Path) -> None:
    """Of runs that were killed: nobody else would give their memory back."""
    for folder in memory.glob(f"{NAME}*"):
        try:
            _locked(folder).close()
        except OSError:  # in use, or somebody else's
            continue
        shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> IO[bytes]:
    """Raises BlockingIOError where another process has locked it, PermissionError where it belongs to another account."""
    file = (folder / "in-use").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
