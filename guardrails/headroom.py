"""What is left of each limit on a key's path, for `GET /v1/key` and the console."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime

import msgspec

from gateway_project.lib import redis
from guardrails import counters
from guardrails.admission import SpendSource, load
from guardrails.limits import Limit, Limits

RATE_SECONDS = 60


class Headroom(msgspec.Struct, frozen=True):
    """One limit and how far it is used: nano-dollars for a budget, requests of the last minute for a rate."""

    limit: Limit
    used: int
    held: int
    resets_at: datetime | None

    @property
    def left(self) -> int:
        return max(0, self.limit.value - self.used - self.held)


async def of(limits: Limits, *, source: SpendSource) -> list[Headroom]:
    """Raises RedisUnavailable, and what `source` raises."""
    await _load_missing(limits, source)
    return [await _headroom(limits, limit) for limit in limits.limits]


async def _load_missing(limits: Limits, source: SpendSource) -> None:
    missing: defaultdict[str, list[int]] = defaultdict(list)
    for limit in limits.limits:
        subject = limits.subjects[limit.subject]
        field = f"b:{limit.starts_ms}" if limit.starts_ms else "spent"
        key = counters.counter(limits.organization_id, subject)
        if limit.kind == "budget" and not await redis.scripts().command("HEXISTS", key, field):
            missing[subject] += [limit.starts_ms] if limit.starts_ms else []
    if missing:
        await load(limits, missing=missing, source=source)


async def _headroom(limits: Limits, limit: Limit) -> Headroom:
    subject = limits.subjects[limit.subject]
    if limit.kind == "rpm":
        return Headroom(limit, await _recent(limits.organization_id, subject), 0, None)
    key = counters.counter(limits.organization_id, subject)
    spent, held, baseline = await redis.scripts().command("HMGET", key, "spent", "held", f"b:{limit.starts_ms}")
    resets_at = datetime.fromtimestamp(limit.ends_ms / 1000, tz=UTC) if limit.ends_ms else None
    return Headroom(limit, int(spent or 0) - int(baseline or 0), int(held or 0), resets_at)


async def _recent(organization_id: int, subject: str) -> int:
    seconds = await redis.scripts().command("HGETALL", counters.rate(organization_id, subject))
    since = time.time() - RATE_SECONDS
    pairs = seconds.items() if isinstance(seconds, dict) else zip(seconds[::2], seconds[1::2], strict=True)
    return sum(int(count) for second, count in pairs if second.isdigit() and int(second) > since)
