"""Pages of a long list, newest first, by the key of their first or last row: a page costs the same wherever it stands, and
what is written meanwhile shifts nothing."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)


class Page(NamedTuple, Generic[M]):
    """`older` and `newer` are the keys to go on from; None where the list ends."""

    rows: list[M]
    older: Any
    newer: Any


def page_of(rows: QuerySet[M], *, before: Any, after: Any, size: int, key: str = "pk") -> Page[M]:
    """The page right after (newer than) `after`, else the one before (older than) `before`, else the newest."""
    if after is not None:
        found = list(rows.filter(**{f"{key}__gt": after}).order_by(key)[: size + 1])
        more, found = len(found) > size, found[:size][::-1]
        return Page(found, getattr(found[-1], key) if found else None, getattr(found[0], key) if more else None)
    rows = rows if before is None else rows.filter(**{f"{key}__lt": before})
    found = list(rows.order_by(f"-{key}")[: size + 1])
    more, found = len(found) > size, found[:size]
    newer = getattr(found[0], key) if before is not None and found else None
    return Page(found, getattr(found[-1], key) if more else None, newer)
