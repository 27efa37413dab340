"""The call log that follows what happens: its newest page asks, while it is open, whether there is more than it shows."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

from analytics.filters import url_with
from analytics.selectors import PAGE_SIZE
from billing.models import UsageRecord
from gateway_project.lib.ids import first_id_at

# Of an address that does not follow.
STANDING: dict[str, str | None] = {"live": None, "seen": None, "from": None}
# Nearly every call that ends now began no longer ago; a longer one, as of a video, comes with the next that did. Asking looks at
# no more than this, however long the log's period is.
LONGEST_CALL = timedelta(hours=1)
# Unix seconds, as many digits as they have until the year 2286.
MOMENT_LENGTH = 10


class Live(NamedTuple):
    """`poll_url` is empty while it does not follow."""

    switch_url: str
    poll_url: str


def live_of(query: QueryDict, ids: Iterable[UUID], *, now: datetime) -> Live | None:
    """Of a page that shows `ids`; None where nothing new can come: on older pages, and where one call is searched for."""
    if query.get("before") or query.get("after") or query.get("q"):
        return None
    if query.get("live") != "1":
        return Live(url_with(query, {"live": "1"}), "")
    since = int((now - LONGEST_CALL).timestamp())
    return Live(url_with(query, STANDING), url_with(query, {"seen": _mark(ids, since), "from": str(since)}))


def is_unchanged(request: HttpRequest, calls: QuerySet[UsageRecord]) -> bool:
    """Whether it is a page that asks, and there is nothing new for it. A call that ran for long is not the first when it ends: so
    all ids since then are compared.
    """
    seen, since = request.GET.get("seen", ""), request.GET.get("from", "")
    if not (request.headers.get("hx-request") and seen and since.isdecimal() and len(since) <= MOMENT_LENGTH):
        return False
    begin = first_id_at(datetime.fromtimestamp(int(since), UTC))
    return _mark(calls.filter(pk__gte=begin).order_by("-pk").values_list("pk", flat=True)[:PAGE_SIZE], int(since)) == seen


def _mark(ids: Iterable[UUID], since: int) -> str:
    begin = first_id_at(datetime.fromtimestamp(since, UTC))
    return f"{zlib.crc32(b''.join(found.bytes for found in ids if found >= begin)):x}"
