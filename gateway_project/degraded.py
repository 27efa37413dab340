"""Whether something is away that this installation can do without for a while: what monitors and the console's banner show.

PostgreSQL away: rows wait in the spool (billing/spool.py), answers go on. Redis away: no call is admitted,
unless its organisation lets calls pass unchecked then (proxy/unguarded.py).
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, NamedTuple

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject
from redis.exceptions import RedisError

from billing import spool
from gateway_project.lib import redis

# A page must not ask again what the page before has just found out.
REMEMBERED_SECONDS = 2.0


class State(NamedTuple):
    """`spooled_rows` and `since` of this host, whoever wrote them. `since` is None where nothing waits."""

    spooled_rows: int
    since: datetime | None
    redis: bool

    def __bool__(self) -> bool:
        return bool(self.spooled_rows) or not self.redis


_last: tuple[float, State] | None = None


def state() -> State:
    """As it was found within the last two seconds. Takes that long itself where Redis does not answer."""
    global _last
    if _last is None or time.monotonic() - _last[0] > REMEMBERED_SECONDS:
        waiting = spool.backlog()
        _last = time.monotonic(), State(waiting.rows, waiting.since, _redis_answers())
    return _last[1]


def banner(request: HttpRequest) -> dict[str, Any]:
    """Context processor: `degraded`, for whoever is signed in."""
    user = getattr(request, "user", None)
    return {"degraded": SimpleLazyObject(state)} if user is not None and user.is_authenticated else {}


def _redis_answers() -> bool:
    try:
        return bool(redis.client().ping())
    except RedisError:
        return False
