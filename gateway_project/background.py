"""What the operator sees of background work: what waits, since when, and whether each scheduled task still runs.

Every message carries the moment at which it was queued; each scheduled task leaves the moments at which it was last queued
and last done in one hash. So a dead worker shows as a queue that grows old, a dead beat as tasks that are no longer queued.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from celery.signals import before_task_publish, task_postrun
from django.conf import settings
from redis.exceptions import RedisError

from gateway_project.lib import redis

QUEUE = "celery"
QUEUED_AT = "queued_at"
HEARTBEATS = "gh:background"
# A task is late where it should have been done so many times over.
LATE_PERIODS = 3
# Beat and worker are looked at anew after this, however short the period of a task.
LEAST_LATE_SECONDS = 60.0


class Scheduled(NamedTuple):
    """A task of the schedule. None: never yet. `late`: it should have been done long since."""

    name: str
    every_seconds: float
    queued_at: datetime | None
    done_at: datetime | None
    late: bool


class Background(NamedTuple):
    """`oldest_at`: when the message that waits longest was queued; None where nothing waits or it does not say."""

    waiting: int
    oldest_at: datetime | None
    scheduled: list[Scheduled]


@before_task_publish.connect
def note_queued(sender: str = "", headers: dict[str, Any] | None = None, **_: object) -> None:
    now = time.time()
    if headers is not None:
        headers[QUEUED_AT] = now
    _note("queued", sender, now)


@task_postrun.connect
def note_done(sender: Any = None, **_: object) -> None:
    _note("done", getattr(sender, "name", ""), time.time())


def background() -> Background | None:
    """None where Redis is away."""
    pipeline = redis.client().pipeline(transaction=False)
    pipeline.llen(QUEUE)
    # Workers take from the end of the list.
    pipeline.lindex(QUEUE, -1)
    pipeline.hgetall(HEARTBEATS)
    try:
        waiting, oldest, heartbeats = pipeline.execute()
    except RedisError:
        return None
    moments = {name.decode(): float(value) for name, value in heartbeats.items()}
    return Background(waiting, _queued_at(oldest), [_scheduled(name, entry, moments) for name, entry in _schedule()])


def _schedule() -> list[tuple[str, dict[str, Any]]]:
    return sorted(settings.CELERY_BEAT_SCHEDULE.items())


def _scheduled(name: str, entry: dict[str, Any], moments: dict[str, float]) -> Scheduled:
    queued, done = (moments.get(f"{what}:{entry['task']}") for what in ("queued", "done"))
    every = float(entry["schedule"])
    late = done is not None and time.time() - done > max(LATE_PERIODS * every, LEAST_LATE_SECONDS)
    return Scheduled(name, every, _moment(queued), _moment(done), late)


def _queued_at(message: bytes | None) -> datetime | None:
    try:
        return _moment(float(json.loads(message or b"{}")["headers"][QUEUED_AT]))
    except (ValueError, KeyError, TypeError):
        return None


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _note(what: str, task: str, now: float) -> None:
    """A moment that cannot be kept must not keep a task from running."""
    if task in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}:
        try:
            redis.client().hset(HEARTBEATS, f"{what}:{task}", now)
        except RedisError:
            return
