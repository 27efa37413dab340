"""The call log that follows what happens: its newest page asks, while it is open, whether there is more than it shows."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from django.http import QueryDict

from analytics.filters import url_with

# Of an address that does not follow.
STANDING: dict[str, str | None] = {"live": None, "seen": None}


class Live(NamedTuple):
    """`poll_url` is empty while it does not follow. A call that ran for long is not the first when it ends: what is there is
    told apart by all ids of the page, `seen`.
    """

    switch_url: str
    poll_url: str
    seen: str


def live_of(query: QueryDict, ids: Iterable[UUID]) -> Live | None:
    """None where nothing new can come: on older pages, and where one call is searched for."""
    if query.get("before") or query.get("after") or query.get("q"):
        return None
    seen = f"{zlib.crc32(b''.join(found.bytes for found in ids)):x}"
    if query.get("live") != "1":
        return Live(url_with(query, {"live": "1"}), "", seen)
    return Live(url_with(query, STANDING), url_with(query, {"seen": seen}), seen)
