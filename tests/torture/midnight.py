"""A time zone whose midnight falls within the run, so that day budgets roll over while calls are under way.

Budget windows begin on a quarter of an hour UTC, so there is a chance every fifteen minutes. On the hour a zone of the IANA
list serves; for the quarters between one is written (RFC 9636, a fixed offset) and put on the path where zones are looked for.
"""

from __future__ import annotations

import os
import struct
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

QUARTER = timedelta(minutes=15)
OWN_NAME = "Torture"
# From the start of a run to the first moment a rollover is of use, and from the last one to its end.
MARGIN = timedelta(seconds=15)


class Midnight(NamedTuple):
    """`wait`: seconds to wait before the run begins. `zone`: UTC where no midnight is near."""

    zone: str
    at: datetime | None
    wait: float


def choose(now: datetime, *, seconds: float, patience: float, folder: Path) -> Midnight:
    """For a run of so many seconds that may begin up to `patience` seconds later."""
    length = timedelta(seconds=seconds)
    earliest = now + MARGIN
    at = datetime.fromtimestamp(-(-earliest.timestamp() // QUARTER.total_seconds()) * QUARTER.total_seconds(), tz=UTC)
    # Begin so that at least the margin is left after it.
    wait = max(0.0, (at - now - (length - MARGIN)).total_seconds())
    if wait > patience or length < 2 * MARGIN:
        return Midnight("UTC", None, 0.0)
    return Midnight(_zone(at, folder), at, wait)


def _zone(at: datetime, folder: Path) -> str:
    """The name of a zone in which this moment is midnight."""
    east = -(at.hour * 60 + at.minute) % 1440
    east -= 1440 if east > 720 else 0
    if east % 60 == 0:
        return f"Etc/GMT{-east // 60:+d}" if east else "UTC"  # POSIX counts westward
    folder.mkdir(exist_ok=True)
    (folder / OWN_NAME).write_bytes(tzif(east * 60))
    return OWN_NAME


def tzif(offset: int) -> bytes:
    """A zone file of one fixed offset, in seconds east of Greenwich."""
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return header + struct.pack(">lbb", offset, 0, 0) + b"TOR\0"


def look_in(folder: Path) -> None:
    """For this process and those it starts."""
    path = [str(folder), *(place for place in zoneinfo.TZPATH if place != str(folder))]
    os.environ["PYTHONTZPATH"] = os.pathsep.join(path)
    zoneinfo.reset_tzpath(path)
