"""The health of deployments for pages and scripts: read from Redis at once, whatever workers there are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import redis as redis_errors

from gateway_project.lib import redis
from proxy.health import keys
from proxy.health.reports import BUCKET_MS, BUCKETS
from proxy.health.state import Circuit


class Availability(msgspec.Struct, frozen=True):
    """One deployment as all workers see it. `error_rate` from 0 to 1, None where the last half minute saw no attempt.

    `opened_by` and `last_error` are kinds of failures (proxy.errors.Kind), empty where there was none lately.
    """

    circuit: Circuit = "closed"
    opened_by: str = ""
    probe_at: datetime | None = None
    error_rate: float | None = None
    attempts: int = 0
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    used_requests: int = 0
    used_tokens: int = 0


def overview(names: Iterable[str]) -> dict[str, Availability]:
    """By `Deployment.health_name`: the deployment's id. Nothing is known where Redis is away: the dict is empty."""
    wanted = list(names)
    pipeline = redis.client().pipeline(transaction=False)
    pipeline.time()
    for name in wanted:
        pipeline.hgetall(keys.state(name))
        pipeline.hgetall(keys.quota(name))
    try:
        (seconds, micros), *found = pipeline.execute()
    except redis_errors.RedisError:
        return {}
    now_ms = seconds * 1000 + micros // 1000
    return {
        name: _availability(_texts(state), _texts(quota), now_ms=now_ms)
        for name, state, quota in zip(wanted, found[::2], found[1::2], strict=True)
    }


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def _availability(state: dict[str, str], quota: dict[str, str], *, now_ms: int) -> Availability:
    bucket = now_ms // BUCKET_MS
    counted = {
        letter: sum(
            int(value)
            for name, value in state.items()
            if name[0] == letter and name[1:].isdigit() and int(name[1:]) > bucket - BUCKETS
        )
        for letter in "sf"
    }
    attempts = counted["s"] + counted["f"]
    till = int(state["till"]) if "opened" in state else None
    second = now_ms // 1000
    return Availability(
        circuit="closed" if till is None else "open" if now_ms < till else "half-open",
        opened_by=state.get("why", ""),
        probe_at=None if till is None else _moment(till),
        error_rate=counted["f"] / attempts if attempts else None,
        attempts=attempts,
        first_token_ms=float(state["first_token"]) if "first_token" in state else None,
        tokens_per_second=float(state["speed"]) if "speed" in state else None,
        last_error=state.get("error", ""),
        last_error_at=_moment(int(state["error_at"])) if "error_at" in state else None,
        used_requests=_last_minute(quota, "r", second),
        used_tokens=_last_minute(quota, "t", second),
    )


def _last_minute(quota: dict[str, str], letter: str, second: int) -> int:
    buckets = ((name[1:], int(value)) for name, value in quota.items() if name[0] == letter and name[1:].isdigit())
    return sum(value for at, value in buckets if int(at) > second - 60)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
