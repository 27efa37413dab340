"""Several workers on a Valkey of their own, which tests empty, end and start again; the registry and the ledger are scripted.

Each worker is a thread with an event loop, and so with a lease, a connection and a view of the generation of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings

from gateway_project.embedded import places
from gateway_project.embedded.child import Child
from gateway_project.embedded.valkey import Valkey
from gateway_project.lib import ids, lifespan, redis
from guardrails import admission, counters, generations, leases
from guardrails.admission import Admitted, Degrade, Refused, Stale
from guardrails.limits import Limit, Limits
from guardrails.loading import Spend
from orgs import epoch
from tests.guardrails.books import SUBJECTS, budget

PATIENCE_SECONDS = 20.0


class Server:
    """A Valkey in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.valkey = Valkey(places.choose(folder), fast=True)
        self.copy = folder / "copy"
        self.child: Child | None = None
        self.start()

    def start(self) -> None:
        self.child = self.valkey.child()
        self.child.start(lambda name, line: None)
        self.child.wait_until_ready(seconds=30)

    def kill(self) -> None:
        assert self.child is not None
        self.child.stop(at_once=True)

    def remember(self) -> None:
        """Keeps its data as they are now."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.valkey.data, self.copy)

    def start_with_what_was_remembered(self) -> None:
        """As one whose last writes never reached the disk."""
        shutil.rmtree(self.valkey.data)
        shutil.copytree(self.copy, self.valkey.data)
        account = self.valkey.place.account
        for path in (self.valkey.data, *self.valkey.data.rglob("*")):
            if account.switch:
                os.chown(path, account.uid, account.gid)
        self.start()


class Registry:
    """Who PostgreSQL would know as living. A worker counts as alive until it is fenced or closed."""

    def __init__(self) -> None:
        self.workers: set[str] = set()
        self.fenced: dict[str, float] = {}
        self.drained = True
        self.away: Exception | None = None

    async def unfenced(self) -> Collection[str]:
        if self.away is not None:
            raise self.away
        return set(self.workers) - set(self.fenced)

    async def fence(self, workers: Collection[str]) -> None:
        for worker in workers:
            self.fenced.setdefault(worker, time.monotonic())

    async def spools_are_drained(self) -> bool:
        return self.drained


class Ledger:
    """A SpendSource: committed rows, and how many calls were let through."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.reads = 0

    @property
    def total(self) -> int:
        return sum(self.rows)

    def commit(self, charged: int) -> int:
        """The transaction that wrote the row."""
        self.rows.append(charged)
        return 999 + len(self.rows)

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Spend:
        self.reads += 1
        rows = list(self.rows)
        after = 1000 + len(rows)
        return Spend(f"{after}:{after}:", dict.fromkeys(starts_by_subject, sum(rows)), {})

    async def calls(self, *, organization_id: int, subject: str, since_ms: int) -> int:
        return len(self.rows)


class Company:
    """An organisation that workers share. `limits` most specific first."""

    def __init__(self, *limits: Limit) -> None:
        self.organization_id = secrets.randbelow(1 << 40) + (1 << 40)
        self.limits = limits or (budget(1000),)
        self.ledger = Ledger()

    async def admit(
        self, amount: int, *, call_id: UUID | None = None, tokens: int = 0, own_only: bool = False
    ) -> Admitted | Refused | Degrade:
        """As the pipeline does: what is stale is compiled again."""
        call_id = call_id or ids.new_call_id()
        for _ in range(10):
            token = await generations.of(self.organization_id)
            known = (await epoch.read(self.organization_id)).value
            with contextlib.suppress(Stale):
                return await admission.admit(
                    Limits(self.organization_id, token, SUBJECTS, self.limits),
                    epoch=known,
                    call_id=call_id,
                    amount=amount,
                    least=None,
                    tokens=tokens,
                    may_degrade=False,
                    context="{}",
                    source=self.ledger,
                    own_only=own_only,
                )
        raise AssertionError("stale again and again")

    async def admitted(self, amount: int, *, tokens: int = 0, own_only: bool = False) -> Admitted:
        outcome = await self.admit(amount, tokens=tokens, own_only=own_only)
        assert isinstance(outcome, Admitted), outcome
        return outcome

    async def settle(self, held: Admitted, charged: int, *, own: int = 0, tokens: int | None = None) -> bool:
        """The row commits, then the hold is replaced; whoever finds Redis away tries again."""
        transaction_id = self.ledger.commit(charged)
        while True:
            try:
                return await admission.settle(
                    held,
                    charged=charged,
                    own=own,
                    transaction_id=transaction_id,
                    recorded_at=datetime.now(UTC),
                    tokens=tokens,
                )
            except redis.RedisUnavailable:
                await asyncio.sleep(0.1)

    async def release(self, held: Admitted) -> bool:
        return await admission.release(held)

    def figure(self, field: str, subject: str = "org") -> int:
        """Of the counter in force; 0 where there is none."""
        token = generations.known_token(self.organization_id) or ""
        found: Any = redis.client().hget(counters.counter(self.organization_id, token, subject), field)
        return int(found or 0)

    def holds(self) -> dict[str, str]:
        token = generations.known_token(self.organization_id) or ""
        found: Any = redis.client().hgetall(counters.holds(self.organization_id, token))
        return {call.decode(): record.decode() for call, record in found.items()}


class Worker:
    """A thread with an event loop that takes part in generations."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.loop = asyncio.new_event_loop()
        self._frozen, self._thawed = False, threading.Event()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def start(self) -> Worker:
        self.do(self._start())
        return self

    async def _start(self) -> None:
        await leases.start()
        self.id = leases.worker_id()
        self.registry.workers.add(self.id)
        await generations.start(self.registry)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(work).result(PATIENCE_SECONDS)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    @property
    def frozen(self) -> bool:
        return self._frozen and not self._thawed.is_set()

    async def look(self) -> None:
        with contextlib.suppress(redis.RedisUnavailable):
            await redis.scripts().command("PING")

    def freeze(self) -> None:
        """As SIGSTOP: nothing of it runs until it thaws."""
        self._frozen = True
        self._thawed.clear()
        asleep = threading.Event()

        def sleep() -> None:
            asleep.set()
            self._thawed.wait()

        self.loop.call_soon_threadsafe(sleep)
        assert asleep.wait(PATIENCE_SECONDS)

    def thaw(self) -> None:
        self._thawed.set()

    def stop(self) -> None:
        self.thaw()
        with contextlib.suppress(Exception):
            self.do(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self.loop.close()

    async def _stop(self) -> None:
        await leases.current().give_up()
        await redis.scripts().close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Crew:
    """Workers that are stopped after the test."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.registry = Registry()
        self.workers: list[Worker] = []

    def hire(self, number: int) -> list[Worker]:
        hired = [Worker(self.registry).start() for _ in range(number)]
        self.workers += hired
        return hired

    def flush(self) -> None:
        redis.client().flushall()

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
        self.reconnect()

    def lose_writes(self) -> None:
        """Since server.remember()."""
        self.server.kill()
        self.server.start_with_what_was_remembered()
        self.reconnect()

    def reconnect(self) -> None:
        """The first to ask finds its connection broken; those who sleep will find out by themselves."""
        for worker in self.workers:
            if not worker.frozen:
                worker.do(worker.look())


@pytest.fixture
def crew(settings: Settings) -> Iterator[Crew]:
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-crew-"))
    folder.chmod(0o711)
    server = Server(folder)
    settings.REDIS_URL = server.valkey.url()
    redis.client.cache_clear()
    closings = len(lifespan._shutdown)
    found = Crew(server)
    try:
        yield found
    finally:
        for worker in found.workers:
            worker.stop()
        del lifespan._shutdown[closings:]
        redis.client().close()
        redis.client.cache_clear()
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
