"""What one admission and its settlement cost: CPU of the worker, and of Valkey per script. Prints JSON.

`python -m gateway_project.bench.admission`, with the servers named in the environment. Nine limits of every counted kind
on six subjects, so many calls running at once, no ledger: the figures that a call pays for its guardrails alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import django
import uvloop

CONCURRENT = 32
CALLS = 6_400
SUBJECTS = ("k1", "m1", "g2", "g1", "org", "pool")
MICROSECONDS = 1e6


class NothingSpent:
    """A SpendSource of an empty ledger."""

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Any:
        from guardrails.loading import Spend

        before = {(subject, start): 0 for subject, starts in starts_by_subject.items() for start in starts}
        return Spend("1:1:", dict.fromkeys(starts_by_subject, 0), before)

    async def calls(self, *, organization_id: int, subject: str, since_ms: int) -> int:
        return 0


def nine_limits(organization_id: int, token: str) -> Any:
    from gateway_project.lib.money import NANO
    from guardrails.limits import Kind, Limit, Limits

    day = int(time.time() // 86_400) * 86_400_000
    kinds: list[tuple[Kind, str, int]] = [
        ("budget", "k1", 100_000 * NANO),
        ("rpm", "k1", 1_000_000),
        ("tpm", "k1", 1_000_000_000),
        ("parallel", "k1", 100_000),
        ("budget", "m1", 100_000 * NANO),
        ("budget", "g2", 100_000 * NANO),
        ("rpd", "g1", 10_000_000),
        ("budget", "org", 100_000 * NANO),
        ("budget", "pool", 1_000_000 * NANO),
    ]
    limits = [
        Limit(
            id=number,
            kind=kind,
            window="day",
            value=value,
            subject=SUBJECTS.index(subject),
            level="level",
            node=subject,
            policy="bench",
            starts_ms=day if kind in ("budget", "rpd") and subject != "pool" else 0,
            ends_ms=day + 86_400_000,
            until_ms=day + 2 * 86_400_000,
        )
        for number, (kind, subject, value) in enumerate(kinds, 1)
    ]
    return Limits(organization_id, token, SUBJECTS, tuple(limits))


async def measure(*, calls: int = CALLS) -> dict[str, float]:
    """Microseconds: worker CPU of one call's two steps, and Valkey's own time in each script."""
    from gateway_project.lib import ids, lifespan
    from guardrails import admission, generations, leases
    from orgs import epoch

    await leases.start()
    await generations.start(generations.Alone())
    organization_id = secrets.randbelow(1 << 40) + (1 << 40)
    limits = nine_limits(organization_id, await generations.of(organization_id))
    now = await epoch.read(organization_id)
    source = NothingSpent()
    held: list[admission.Admitted] = []

    async def admit(call_id: UUID) -> None:
        outcome = await admission.admit(
            limits,
            epoch=now.value,
            call_id=call_id,
            amount=1_000_000,
            least=None,
            tokens=1_000,
            may_degrade=True,
            context="{}",
            source=source,
        )
        if not isinstance(outcome, admission.Admitted):
            raise RuntimeError(f"the benchmark's own limits refuse a call: {outcome}")
        held.append(outcome)

    async def settle(one: admission.Admitted) -> None:
        await admission.settle_hold(
            organization_id, one.call_id, one.subjects, charged=900_000, transaction_id=2, recorded_at=_now(), tokens=900
        )

    await admit(ids.new_call_id())
    await settle(held.pop())
    admitting, settling = Taken(), Taken()
    for _ in range(calls // CONCURRENT):
        await admitting.add(admit(ids.new_call_id()) for _ in range(CONCURRENT))
        await settling.add(settle(one) for one in held)
        held.clear()
    await lifespan.stop()
    return {
        "worker_us": admitting.worker_us + settling.worker_us,
        "admit_us": admitting.valkey_us,
        "settle_us": settling.valkey_us,
    }


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


class Taken:
    """What so many scripts at once took on both sides, in microseconds; one round after another."""

    def __init__(self) -> None:
        self.calls = 0
        self.cpu_seconds = self.valkey_total = 0.0

    async def add(self, steps: Iterable[Coroutine[Any, Any, None]]) -> None:
        from gateway_project.lib import redis

        await redis.scripts().command("CONFIG", "RESETSTAT")
        began = time.process_time()
        await asyncio.gather(*steps)
        self.cpu_seconds += time.process_time() - began
        stats = (await redis.scripts().command("INFO", "commandstats")).decode()
        line = next(line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:"))
        figures = dict(part.split("=") for part in line.partition(":")[2].split(","))
        self.calls += int(figures["calls"])
        self.valkey_total += float(figures["usec"])

    @property
    def worker_us(self) -> float:
        return self.cpu_seconds * MICROSECONDS / self.calls

    @property
    def valkey_us(self) -> float:
        return self.valkey_total / self.calls


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    print(json.dumps(uvloop.run(measure())))  # noqa: T201


if __name__ == "__main__":
    main()
