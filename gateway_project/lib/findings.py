"""What background work finds, as figures for monitors. It runs in processes that nobody scrapes, so the figures are kept in
Redis, and every web process tells them at /metrics. A Redis that was lost begins them anew, as any restart does a process's.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway_project.lib import redis

NAME = "gh:findings"
DIFFERENCES, FAULTS = "counter_differences", "audit_faults"


def add_differences(number: int) -> None:
    """Counters found to differ from the ledger. Raises RedisError."""
    redis.client().hincrby(NAME, DIFFERENCES, number)


def note_faults(number: int) -> None:
    """All that the latest verification of the audit trails found. Raises RedisError."""
    redis.client().hset(NAME, FAULTS, number)


async def registry() -> CollectorRegistry:
    """The figures as they are now; none of those nobody has looked for. Raises RedisUnavailable."""
    found = CollectorRegistry()
    differences, faults = await redis.scripts().command("HMGET", NAME, DIFFERENCES, FAULTS)
    found.register(_Found(differences, faults))
    return found


class _Found:
    def __init__(self, differences: bytes | None, faults: bytes | None) -> None:
        self.differences = differences
        self.faults = faults

    def collect(self) -> Iterator[Metric]:
        if self.differences is not None:
            words = "Counters found to differ from the ledger"
            yield CounterMetricFamily("gatehouse_counter_differences", words, value=int(self.differences))
        if self.faults is not None:
            words = "Faults that the latest daily verification of the audit trails found"
            yield GaugeMetricFamily("gatehouse_audit_faults", words, value=int(self.faults))
