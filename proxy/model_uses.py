"""Who has called which models of late, as far as a person may see it: for the names that matter only.

The sums stand above this app, so whoever makes them says how to read them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from django.utils import timezone

from orgs.actor import Actor

DAYS = 30


class Use(NamedTuple):
    """Completed calls of one model in the last `DAYS` days, and by how many keys."""

    model: str
    calls: int
    keys: int


Reader = Callable[[Collection[str], Actor, datetime], list[Use]]

_readers: list[Reader] = []


def read_with(reader: Reader) -> None:
    """`reader` takes names, who asks, and since when; it answers by one statement, the most used first."""
    _readers[:] = [reader]


def of_models(names: Collection[str], *, actor: Actor) -> list[Use]:
    """The most used first. One statement, and none where no name is given. Raises RuntimeError where no reader was named."""
    if not names:
        return []
    if not _readers:
        raise RuntimeError("nobody sums calls: call model_uses.read_with at start-up")
    return _readers[0](names, actor, timezone.now() - timedelta(days=DAYS))
