"""A worker's lease: one key in Redis that it renews every second, for all its holds together.

A worker whose lease has run out is taken for dead, and its holds are resolved from the ledger
(proxy.holds). So a worker that cannot renew stops in time: `refuse_if_lost` raises two seconds before
others may take its holds, for admissions and for relays of open streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec
from django.conf import settings
from redis.exceptions import RedisError

from gateway_project.lib import lifespan, redis
from gateway_project.lib.beats import beat
from gateway_project.lib.loops import PerLoop
from gateway_project.lib.tended import Tended
from guardrails import counters

RENEW_SECONDS = 1.0
MARGIN_SECONDS = 2.0
LATE_SECONDS = 2.5


class LeaseLost(redis.RedisUnavailable):
    """This worker could not renew its lease; others may resolve its holds at any moment."""


class Hold(msgspec.Struct, frozen=True):
    """What a running call holds, as Redis keeps it (guardrails/counters.py: holds)."""

    organization_id: int
    subjects: tuple[str, ...]
    record: str


class Lease:
    """The lease of one event loop, and what it stands for."""

    def __init__(self) -> None:
        self.worker_id = secrets.token_hex(8)
        self.renewed_at = time.monotonic()
        self.holds: dict[UUID, Hold] = {}
        self._checks: list[Callable[[], Awaitable[None]]] = []
        self._checking: asyncio.Task[None] | None = None
        self._announced: set[int] = set()
        self._task = Tended(self._keep, name="lease")
        lifespan.on_shutdown(self.give_up)

    async def announce(self, organization_id: int) -> None:
        """Before the first hold of an organisation: the resolver must look at it should this worker die."""
        if organization_id not in self._announced:
            await redis.scripts().command("SADD", counters.ACTIVE_ORGANIZATIONS, organization_id)
            self._announced.add(organization_id)

    @property
    def lost(self) -> bool:
        return time.monotonic() - self.renewed_at > settings.LEASE_SECONDS - MARGIN_SECONDS

    @property
    def is_late(self) -> bool:
        """Redis has not answered the last few renewals: whoever may do without it need not wait for it."""
        return time.monotonic() - self.renewed_at > LATE_SECONDS

    async def renew(self) -> None:
        asked_at = time.monotonic()
        command = redis.scripts().command
        asked = [command("SET", counters.worker(self.worker_id), "1", "PX", int(settings.LEASE_SECONDS * 1000))]
        if self._announced:  # again and again: Redis may have lost them
            asked.append(command("SADD", counters.ACTIVE_ORGANIZATIONS, *self._announced))
        with contextlib.suppress(redis.RedisUnavailable):
            await asyncio.gather(*asked)
            self.renewed_at = asked_at

    async def give_up(self) -> None:
        """At an orderly end nothing is held any more: the key goes at once."""
        await self._task.stop()
        if self._checking is not None:
            self._checking.cancel()
        with contextlib.suppress(asyncio.CancelledError, redis.RedisUnavailable):
            await redis.scripts().command("DEL", counters.worker(self.worker_id))

    def on_renewal(self, check: Callable[[], Awaitable[None]]) -> None:
        """Runs with every renewal, one round at a time; the renewal itself waits for none."""
        self._checks.append(check)

    async def _keep(self) -> None:
        while True:
            if self._checking is None or self._checking.done():  # begun first, so that both go out together
                self._checking = asyncio.get_running_loop().create_task(self._check())
            await self.renew()
            await beat(RENEW_SECONDS)

    async def _check(self) -> None:
        for check in self._checks:
            with contextlib.suppress(redis.RedisUnavailable):
                await check()


_leases = PerLoop(Lease)


async def start() -> None:
    """Takes this worker's lease, unless it has one. Awaited before the first admission."""
    if _leases.get() is None:
        await _leases().renew()


def current() -> Lease:
    """Raises LookupError before `start`."""
    lease = _leases.get()
    if lease is None:
        raise LookupError("this event loop has taken no lease")
    return lease


def worker_id() -> str:
    return current().worker_id


async def is_alive(worker: str) -> bool:
    """Whether this worker has renewed its lease in time. Raises RedisUnavailable."""
    return bool(await redis.scripts().command("EXISTS", counters.worker(worker)))


def forget(call_id: UUID) -> None:
    """This call holds nothing any more."""
    lease = _leases.get()
    if lease is not None:
        lease.holds.pop(call_id, None)


def refuse_if_lost() -> None:
    """Raises LeaseLost."""
    if current().lost:
        raise LeaseLost("this worker could not renew its lease in time")


def alive_workers() -> int | None:
    """How many workers hold a lease at this moment, for the operator's page; None where Redis is away."""
    try:
        return sum(1 for _ in redis.client().scan_iter(match=counters.worker("*"), count=1000))
    except RedisError:
        return None
