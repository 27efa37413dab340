"""Models by when they were first offered. The catalogue stands above this app and says so at start-up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple


class NewModel(NamedTuple):
    name: str
    first_offered_at: datetime


_readers: list[Callable[[datetime], list[NewModel]]] = []
_by_name: list[Callable[[str], NewModel | None]] = []


def read_with(reader: Callable[[datetime], list[NewModel]], *, by_name: Callable[[str], NewModel | None]) -> None:
    """`reader` answers what is first offered after a moment, by one statement; `by_name` also knows what it does not list."""
    _readers[:] = [reader]
    _by_name[:] = [by_name]


def since(moment: datetime) -> list[NewModel]:
    """First offered after it, the newest first; none where no catalogue was named."""
    return _readers[0](moment) if _readers else []


def named(name: str, *, since: datetime) -> NewModel | None:
    """A model of this name that is first offered after a moment, even one that `since` does not list."""
    found = _by_name[0](name) if _by_name and name else None
    return found if found is not None and found.first_offered_at > since else None
