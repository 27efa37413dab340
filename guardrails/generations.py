"""Generations: how workers notice that Redis forgot something, and begin again without forgetting what they hold.

All that is counted lies under the token of a generation, valid for one run of the Redis server. A server that was
emptied has no generation; one that was started anew, or promoted, has another run id, and may have lost its last
writes. Every script that admits or settles compares both, so the first to meet such a server begins a new
generation, under whose token nothing is counted yet:

1. every worker tells it what it holds (`assert.lua`), then that it has done so;
2. workers that PostgreSQL knows and that have not ended in good order are waited for; one that has told nothing in
   three seconds is fenced there: what it still writes is refused, so what it holds may be forgotten;
3. rows that dead workers left in spools of this host are written;
4. the generation comes into force. Counters are loaded from the ledger as they are asked for; rates begin at 0.

Until then admissions and settlements wait; a refusal for money cannot come of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog

from gateway_project.lib import redis
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.loops import PerLoop
from guardrails import counters, leases
from orgs import epoch as epochs

log = structlog.get_logger(__name__)

_LUA = Path(__file__).with_name("lua")
_BEGIN = redis.Script(_LUA / "begin_generation.lua")
_ASSERT = redis.Script(_LUA / "amounts.lua", _LUA / "assert.lua")
_RETRACT = redis.Script(_LUA / "amounts.lua", _LUA / "retract.lua")
_ASSERTED = redis.Script(_LUA / "asserted.lua")
_COMPLETE = redis.Script(_LUA / "complete_generation.lua")
_ADOPT = redis.Script(_LUA / "adopt.lua")
# A worker that lives says so every second; one that has not told what it holds by then is fenced.
FENCE_AFTER_MS = 3000
# How long an admission waits for a generation before it is refused as unavailable.
WAIT_SECONDS = 6.0
POLL_SECONDS = 0.05
MAX_ROUNDS = 3
# Everything counted under a token: counters, rates, holds and tombstones.
COUNTED = re.compile(r"gh:\{\d+\}:((?:v\d)?[0-9a-f]+):(?:holds$|[crt]:)")
# What a token begins with. Whoever changes what a counter or a hold looks like changes it: what an older version counted is
# left behind, and loaded from the ledger anew. No letter of a hexadecimal number: older tokens began at random.
LAYOUT = "v2"
SWEEP_COUNT = 500


class Workers(Protocol):
    """The registry of workers in PostgreSQL, given by the app that owns the ledger."""

    async def unfenced(self) -> Collection[str]:
        """Ids of workers that may write to the ledger: all but those that were fenced or ended in good order."""

    async def fence(self, workers: Collection[str]) -> None:
        """From its return on the ledger refuses what these write; rows being written are waited for."""

    async def spools_are_drained(self) -> bool:
        """Whether no dead worker of this host left rows that are not in the ledger yet."""


class Alone:
    """No registry: this worker is the only one there is."""

    async def unfenced(self) -> Collection[str]:
        return ()

    async def fence(self, workers: Collection[str]) -> None:
        return None

    async def spools_are_drained(self) -> bool:
        return True


class Generations:
    """What one event loop knows of the generation in force."""

    def __init__(self, workers: Workers) -> None:
        self.token = ""
        self._workers = workers
        self._run_id = ""
        # Organisations that count under this token, and all that this worker ever knew something of.
        self._adopted: set[int] = set()
        self._met: set[int] = set()
        self._preparing: asyncio.Task[None] | None = None

    async def of(self, organization_id: int) -> str:
        """The token under which this organisation's counters lie. Raises RedisUnavailable."""
        if not self.token:
            await self.renew()
        for _ in range(MAX_ROUNDS):
            if organization_id in self._adopted:
                return self.token
            token = self.token
            if not await _adopt(organization_id, token):
                await self.renew()
            elif token == self.token:
                self._adopted.add(organization_id)
                self._met.add(organization_id)
        raise redis.RedisUnavailable("Redis does not keep what is written to it")

    async def renew(self) -> str:
        """Waits until a generation is in force that is valid for the server as it is now. Raises RedisUnavailable."""
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.get_running_loop().create_task(self._renew())
            self._preparing.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.shield(self._preparing)
        except TimeoutError as error:
            raise redis.RedisUnavailable("what calls hold is being gathered again") from error
        return self.token

    async def check(self) -> None:
        """Takes part in a generation that another worker has begun, soon after it has."""
        begun = await redis.scripts().command("EXISTS", counters.NEXT_GENERATION)
        if begun or redis.scripts().run_id != self._run_id:
            await self.renew()

    async def _renew(self) -> None:
        self._adopted.clear()
        keys = (counters.GENERATION, counters.NEXT_GENERATION)
        while True:
            state, run_id, token, *age = await redis.scripts().run(
                _BEGIN, keys, (redis.RUN_ID, LAYOUT + secrets.token_hex(4), LAYOUT)
            )
            if state == b"CURRENT":
                await self._enter(run_id.decode(), token.decode())
                return
            with contextlib.suppress(DatabaseUnavailable):
                if await self._prepared(token.decode(), int(age[0])):
                    await _complete(token.decode())
                    continue
            await asyncio.sleep(POLL_SECONDS)

    async def _enter(self, run_id: str, token: str) -> None:
        """What this worker knows of an organisation it knows under an epoch; one that came back must not be met again."""
        known, self._run_id, self.token = self.token, run_id, token
        if token != known:
            met = list(self._met)
            adopted = await asyncio.gather(*(_adopt(organization_id, token) for organization_id in met))
            self._adopted.update(organization_id for organization_id, done in zip(met, adopted, strict=True) if done)

    async def _prepared(self, token: str, age_ms: int) -> bool:
        """Whether nothing stands in the way of this generation any more."""
        lease = leases.current()
        # Redis may have lost these too: who resolves dead workers' holds must neither take this one for dead nor miss its own.
        await lease.renew()
        await self._tell(token, lease)
        keys = (counters.NEXT_GENERATION, counters.asserted(token))
        heard = {worker.decode() for worker in await redis.scripts().run(_ASSERTED, keys, (redis.RUN_ID, token, lease.worker_id))}
        if not heard:
            return False
        missing = set(await self._workers.unfenced()) - heard
        if missing and age_ms < FENCE_AFTER_MS:
            return False
        if missing:
            log.warning("generation.fences", workers=len(missing))
            await self._workers.fence(missing)
        return await self._workers.spools_are_drained()

    async def _tell(self, token: str, lease: leases.Lease) -> None:
        """What this worker's calls hold; telling twice tells nothing new."""
        told = dict(lease.holds)
        for call_id, hold in told.items():
            await redis.scripts().run(_ASSERT, _hold_keys(call_id, hold, token), (str(call_id), hold.record))
        for call_id, hold in told.items():
            if call_id not in lease.holds:
                await redis.scripts().run(_RETRACT, _hold_keys(call_id, hold, token), (str(call_id),))


def _hold_keys(call_id: UUID, hold: leases.Hold, token: str) -> list[str]:
    organization_id = hold.organization_id
    return [
        counters.holds(organization_id, token),
        counters.tombstone(organization_id, token, call_id),
        *counters.counters(organization_id, token, hold.subjects),
    ]


async def _complete(token: str) -> None:
    keys = (counters.GENERATION, counters.NEXT_GENERATION, epochs.keys(epochs.CATALOGUE)[0])
    if await redis.scripts().run(_COMPLETE, keys, (redis.RUN_ID, token, secrets.token_hex(8))):
        holds = len(leases.current().holds)
        # With calls under way Redis has lost something; without any it is the first start, or nothing is missed.
        log.log(logging.WARNING if holds else logging.INFO, "generation.began", token=token, holds=holds)


def _retrieve(preparing: asyncio.Task[None]) -> None:
    """Whoever waited has gone: its failure is nobody's any more, and the next to ask begins again."""
    if not preparing.cancelled():
        preparing.exception()


_generations: PerLoop[Generations | None] = PerLoop(lambda: None)


async def start(workers: Workers) -> None:
    """Takes part in the generation in force, or begins the first. Awaited after this worker has taken its lease.

    Where Redis or PostgreSQL is away, the first call that needs a generation tries again.
    """
    generations = Generations(workers)
    _generations.put(generations)
    leases.current().on_renewal(generations.check)
    with contextlib.suppress(redis.RedisUnavailable):
        await generations.renew()


async def of(organization_id: int) -> str:
    """The token under which an organisation's counters lie. Raises RedisUnavailable."""
    generations = _generations.get()
    return await (at_once(organization_id) if generations is None else generations.of(organization_id))


async def at_once(organization_id: int) -> str:
    """The same for whom a generation may wait that is being prepared: raises RedisUnavailable until it is in force."""
    token = await _in_force()
    if not await _adopt(organization_id, token):
        raise redis.RedisUnavailable("what calls hold is being gathered again")
    return token


async def renew() -> None:
    """Waits for a generation that is valid for the server as it is now; who takes no part does not wait.

    Raises RedisUnavailable.
    """
    generations = _generations.get()
    if generations is None:
        await _in_force()
    else:
        await generations.renew()


async def _in_force() -> str:
    found = await redis.scripts().command("GET", counters.GENERATION)
    run_id, _, token = (found or b"").decode().partition(":")
    if not token or run_id != redis.scripts().run_id:
        raise redis.RedisUnavailable("what calls hold is being gathered again")
    return token


async def _adopt(organization_id: int, token: str) -> bool:
    keys = (counters.generation(organization_id), epochs.keys(organization_id)[0], counters.GENERATION)
    return bool(await redis.scripts().run(_ADOPT, keys, (redis.RUN_ID, token, secrets.token_hex(8))))


def known_token(organization_id: int) -> str | None:
    """The same for synchronous code, as this organisation's scripts see it: None where nothing is counted."""
    found: Any = redis.client().get(counters.generation(organization_id))
    run_id, _, token = (found or b"").decode().partition(":")
    server: Any = redis.client().info("server")
    return token if token and run_id == server["run_id"] else None


def sweep() -> int:
    """Removes what generations that are over have counted, a few hundred keys at a time → how many keys.

    What is kept is read after the keys were found: one that belongs to a generation begun meanwhile is recognised.
    """
    client: Any = redis.client()
    cursor, removed = 0, 0
    while True:
        cursor, found = client.scan(cursor, match="gh:{*}:*:*", count=SWEEP_COUNT)
        kept = _tokens_kept()
        over = [key for key in found if (match := COUNTED.match(key.decode())) and match[1] not in kept]
        if over:
            removed += int(client.unlink(*over))
        if not cursor:
            return removed


def _tokens_kept() -> set[str]:
    pipeline = redis.client().pipeline(transaction=True)
    pipeline.get(counters.GENERATION)
    pipeline.hget(counters.NEXT_GENERATION, "token")
    in_force, being_prepared = pipeline.execute()
    return {(in_force or b"").decode().partition(":")[2], (being_prepared or b"").decode()}
