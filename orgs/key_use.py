"""Which keys nobody uses: the ledger stands above this app, so its owner says how to ask it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db.models import Q

_finders: list[Callable[[datetime], Q]] = []


def find_unused_with(finder: Callable[[datetime], Q]) -> None:
    """`finder` returns a condition on keys: no call began at or after the moment."""
    _finders[:] = [finder]


def unused_since(moment: datetime) -> Q:
    """Made before the moment and not used since; where nobody knows, none."""
    conditions = [finder(moment) for finder in _finders]
    return Q(*conditions, created_at__lt=moment) if conditions else Q(pk__in=[])
