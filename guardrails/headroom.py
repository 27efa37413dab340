"""What is left of each limit on a key's path, for `GET /v1/key`, explanations and the console."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from gateway_project.lib import redis
from guardrails import counters, loading
from guardrails.limits import Limit, Limits
from guardrails.loading import SpendSource

RATE_SECONDS = 60


class Headroom(msgspec.Struct, frozen=True):
    """One limit and how far it is used: nano-dollars for a budget, else requests, tokens or running calls."""

    limit: Limit
    used: int
    held: int
    resets_at: datetime | None

    @property
    def spent(self) -> int:
        """What counts against `limit.shown_value`: a reset has forgiven the rest."""
        return max(0, self.used - self.limit.forgiven)

    @property
    def left(self) -> int:
        return max(0, self.limit.value - self.used - self.held)


async def of(limits: Limits, *, source: SpendSource) -> list[Headroom]:
    """Raises RedisUnavailable, and what `source` raises."""
    counted = [limits.subjects[limit.subject] for limit in limits.limits if limit.kind in ("budget", "rpd")]
    missing = await loading.still_missing(limits, loading.wanted(limits, list(dict.fromkeys(counted))))
    if missing:
        await loading.load(limits, missing=missing, source=source)
    return [await _headroom(limits, limit) for limit in limits.limits]


async def _headroom(limits: Limits, limit: Limit) -> Headroom:
    subject = limits.subjects[limit.subject]
    resets_at = datetime.fromtimestamp(limit.ends_ms / 1000, tz=UTC) if limit.ends_ms else None
    match limit.kind:
        case "rpm" | "tpm":
            return Headroom(limit, await _recent(limits, subject, "t" if limit.kind == "tpm" else ""), 0, None)
        case "max_tokens":
            return Headroom(limit, 0, 0, None)
        case "budget":
            used, held = await _budget(limits, limit, subject)
            return Headroom(limit, used, held, resets_at)
        case _:
            field = "live" if limit.kind == "parallel" else f"q:{limit.starts_ms}"
            (count,) = await _fields(limits, subject, field)
            return Headroom(limit, count, 0, resets_at)


async def _budget(limits: Limits, limit: Limit, subject: str) -> tuple[int, int]:
    """Used and held, as lua/admit.lua reads them (lua/amounts.lua names the fields)."""
    start = limit.starts_ms
    fields = ("spent", "held", f"b:{start}", "own", "held_own", f"o:{start}")
    spent, held, before, own, held_own, own_before = await _fields(limits, subject, *fields)
    return (spent + own - before - own_before, held) if limit.counts_byok else (spent - before, held - held_own)


async def _fields(limits: Limits, subject: str, *fields: str) -> list[int]:
    key = counters.counter(limits.organization_id, limits.generation, subject)
    found = await redis.scripts().command("HMGET", key, *fields)
    return [int(value or 0) for value in found]


async def _recent(limits: Limits, subject: str, prefix: str) -> int:
    buckets = await redis.scripts().command("HGETALL", counters.rate(limits.organization_id, limits.generation, subject))
    return recent(zip(buckets[::2], buckets[1::2], strict=True), prefix=prefix)


def recent(buckets: Iterable[tuple[bytes, bytes]], *, prefix: str = "") -> int:
    """What the last minute saw, of a rate counter's fields: one for each second (lua/admit.lua), and its running sums."""
    since = time.time() - RATE_SECONDS
    seconds = ((name.decode().removeprefix(prefix), int(count)) for name, count in buckets if name.decode().startswith(prefix))
    return sum(count for second, count in seconds if second.isdigit() and int(second) > since)
