"""What was spent, for pages and resets. The ledger stands beside this app, so whoever joins the two says how to ask it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple


class Asked(NamedTuple):
    """What one budget counts, in nano-dollars: of a counter's name, since the beginning of a window (None: ever)."""

    subject: str
    since: datetime | None
    counts_byok: bool = False


Reader = Callable[[int, Collection[Asked]], dict[Asked, int]]

_readers: list[Reader] = []


def read_with(reader: Reader) -> None:
    """`reader` takes an organisation's id and what is asked, and answers all of it by one statement."""
    _readers[:] = [reader]


def spent(organization_id: int, asked: Collection[Asked]) -> dict[Asked, int]:
    """Raises RuntimeError where no ledger was named: a reset that guessed zero would forgive nothing."""
    if not _readers:
        raise RuntimeError("no ledger was named: call spending.read_with at start-up")
    return _readers[0](organization_id, asked) if asked else {}
