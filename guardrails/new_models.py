"""Models by when they were first offered. The catalogue stands above this app and says so at start-up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple


class NewModel(NamedTuple):
    name: str
    first_offered_at: datetime


_readers: list[Callable[[datetime], list[NewModel]]] = []


def read_with(reader: Callable[[datetime], list[NewModel]]) -> None:
    """`reader` answers what is first offered after a moment, by one statement."""
    _readers[:] = [reader]


def since(moment: datetime) -> list[NewModel]:
    """First offered after it, the newest first; none where no catalogue was named."""
    return _readers[0](moment) if _readers else []
