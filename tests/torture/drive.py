"""One run: callers call, somebody changes limits and keys, and things break on schedule; then everything comes to rest."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, TypeVar

from django.db import connections

from gateway_project.lib.money import NANO, parse_usd
from tests.torture import client
from tests.torture.beat import Beat
from tests.torture.callers import POOL_NODE, Callers
from tests.torture.client import Seen
from tests.torture.company import POOL, VICTIM, Company, Key, recorded_ids
from tests.torture.history import Bounds, Budget, Card, Disturbance, History, Kind, Order
from tests.torture.stage import LEASE_SECONDS, Stage

T = TypeVar("T")
CHANGE_SECONDS = 0.15
LOST_WRITES_SECONDS = 3.0
# After each change workers ask PostgreSQL again: whoever is to do without it must have had the time to.
CALM_SECONDS = 2.0
ROOM_PER_SECOND = 4 * NANO  # calls of a second cost two dollars or three
REST_SECONDS, NAIVE_REST_SECONDS = 45.0, 2.0  # rows that were lost do not come by waiting


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is made of. `seconds`: how long calls are issued at least. `joint`: stops that end with a flush.

    `stop_seconds`: how long PostgreSQL stays away.
    """

    calls: int = 20_000
    workers: int = 4
    kills: int = 50
    flushes: int = 2
    restarts: int = 1
    stops: int = 1
    stop_seconds: float = 5.0
    joint: int = 0
    seed: int = 1
    seconds: float = 400.0
    concurrency: int = 48
    naive: bool = False

    @property
    def order(self) -> Order:
        flushes = self.flushes + min(self.joint, self.stops)
        return Order(self.calls, self.kills, flushes, self.restarts, self.stops, self.stop_seconds)


class Drive:
    def __init__(self, stage: Stage, company: Company, options: Options, *, zone: tzinfo) -> None:
        self.stage, self.company, self.options = stage, company, options
        self._joint_left = options.joint
        self.history = History(zone, bounds=Bounds(lease=LEASE_SECONDS), order=options.order)
        self.callers = Callers(
            company,
            ports=[worker.port for worker in stage.workers],
            seed=options.seed,
            calls=options.calls,
            concurrency=options.concurrency,
            per_second=options.calls / options.seconds,
        )
        self.beat = Beat()
        self.changes: Counter[str] = Counter()
        self._trying: set[asyncio.Task[Any]] = set()  # calls of keys that have just been closed
        self._random = random.Random(options.seed + 1)  # noqa: S311 - no secret
        self._one_at_a_time = {number: asyncio.Lock() for number in range(options.workers)}
        self._calm = asyncio.Lock()
        self._one_restart, self._valkey_is_up = asyncio.Lock(), asyncio.Lock()
        # Django's connections belong to threads: one for each kind of work.
        self._managing, self._beating, self._breaking = ThreadPoolExecutor(1), ThreadPoolExecutor(1), stage.threads

    async def run(self) -> History:
        began = time.time()
        background = [asyncio.create_task(work) for work in (self._change_things(), self._keep_beating())]
        try:
            async with asyncio.TaskGroup() as group:
                breaking = [group.create_task(self._at(at, kind)) for at, kind in self._schedule()]
                group.create_task(self._call(breaking))
            background[0].cancel()
            await asyncio.gather(*self._trying)
            await self._come_to_rest()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        self.history.calls = self.callers.made
        self.history.budgets, self.history.closings = self.company.budgets, self.company.closings
        self.history.rows = await self._in(self._managing, self.company.rows)
        self.seconds = time.time() - began
        for pool in (self._managing, self._beating):
            await self._in(pool, connections.close_all)
            pool.shutdown()
        return self.history

    async def _call(self, breaking: list[asyncio.Task[None]]) -> None:
        await self.callers.run(meanwhile=breaking)
        self.history.loaded_until = time.time()

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    # --- what breaks ----------------------------------------------------------------------------
    def _schedule(self) -> list[tuple[float, Kind]]:
        """(share of the calls issued, what then breaks)."""
        options, drawn = self.options, self._random
        kills: list[tuple[float, Kind]] = [
            (0.03 + 0.92 * (number + drawn.random()) / options.kills, "kill") for number in range(options.kills)
        ]
        counts: dict[Kind, int] = {"flush": options.flushes, "restart": options.restarts, "stop": options.stops}
        servers = [kind for kind, count in counts.items() for _ in range(count)]
        drawn.shuffle(servers)
        spaced = [(0.1 + 0.75 * (at + 0.5 * drawn.random()) / len(servers), kind) for at, kind in enumerate(servers)]
        return kills + spaced

    async def _at(self, share: float, kind: Kind) -> None:
        while self.callers.progress < share:
            await asyncio.sleep(0.02)
        await {"kill": self._kill, "flush": self._flush, "restart": self._restart, "stop": self._stop}[kind]()

    async def _kill(self) -> None:
        worker = self._random.randrange(self.options.workers)
        async with self._one_at_a_time[worker]:
            began = time.time()
            await self._in(self._breaking, self.stage.kill_worker, worker)
            self._note("kill", began, worker)

    async def _flush(self) -> None:
        async with self._valkey_is_up:  # a server that is just being restarted takes no command
            began = time.time()
            await self._in(self._breaking, self.stage.flush)
            self._note("flush", began)

    async def _restart(self) -> None:
        async with self._one_restart:  # the next one would overwrite the copy of this one
            await self._in(self._breaking, self.stage.copy_valkey)
            await asyncio.sleep(LOST_WRITES_SECONDS)
            async with self._valkey_is_up:
                began = time.time()
                await self._in(self._breaking, self.stage.restart_valkey_with_lost_writes)
                self._note("restart", began)

    async def _stop(self) -> None:
        at_once = self._random.random() < 0.5
        async with self._calm:
            await self._in(self._managing, self._make_room)
            await asyncio.sleep(CALM_SECONDS)
            began = time.time()
            await self._in(self._breaking, lambda: self.stage.stop_postgres(at_once=at_once))
        await self._ask_each_second(seconds=self.options.stop_seconds)
        if self._joint_left > 0:  # workers must begin anew while their rows are in spools and nobody has shown that it lives
            self._joint_left -= 1
            await self._flush()
        await self._in(self._breaking, self.stage.start_postgres)
        self._note("stop", began)

    async def _ask_each_second(self, *, seconds: float) -> None:
        """How every worker says it is."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 1.0))
            asked = (client.call(port, key="", path="/readyz", seconds=10) for port in self.callers.ports)
            self.history.readiness.update([_readiness(seen) for seen in await asyncio.gather(*asked)])

    def _note(self, kind: Kind, began: float, worker: int | None = None) -> None:
        self.history.disturbances.append(Disturbance(kind, began, time.time(), worker))

    # --- what people change ---------------------------------------------------------------------
    async def _change_things(self) -> None:
        while True:
            await asyncio.sleep(CHANGE_SECONDS)
            async with self._calm:
                closed = await self._in(self._managing, self._change)
            if closed is not None:  # the very next calls, on every worker, whatever else goes on
                workers = range(self.options.workers)
                self._trying |= {asyncio.create_task(self.callers.make_plain(closed, worker=worker)) for worker in workers}

    def _change(self) -> Key | None:
        """Most often a budget, near what was spent of it; now and then the victim's key → one that is closed from now on."""
        drawn = self._random.random()
        try:
            if drawn < 0.05:
                return self._close_a_key(revoke=drawn < 0.02)
            if drawn < 0.08:
                self.company.switch_on(VICTIM)
                self.changes["keys switched on"] += 1
            else:
                self._change_a_budget()
        except Exception as error:
            # A server is away: whether the change was made nobody knows, and the judge takes both for possible.
            self.changes[f"changes not made ({type(error).__name__})"] += 1
            connections.close_all()
        return None

    def _close_a_key(self, *, revoke: bool) -> Key:
        closed = self.company.replace(VICTIM) if revoke else self.company.switch_off(VICTIM)
        self.changes["keys revoked" if revoke else "keys switched off"] += 1
        return closed

    def _change_a_budget(self) -> None:
        budget = self._budget_to_change()
        before = budget.versions[-1].value
        self.company.set_budget(budget, self._new_value(budget))
        self.changes["limits raised" if budget.versions[-1].value > before else "limits lowered"] += 1

    def _make_room(self) -> None:
        """For all that can be asked while nobody can raise a budget."""
        room = int(ROOM_PER_SECOND * self.options.stop_seconds)
        try:
            for budget in self.company.budgets:
                wanted = self.callers.charged[budget.subject] + room
                self.company.set_budget(budget, max(budget.versions[-1].value, wanted))
        except Exception as error:  # Valkey is away as well: the budgets stay as they are
            self.changes[f"changes not made ({type(error).__name__})"] += 1
            connections.close_all()

    def _budget_to_change(self) -> Budget:
        refused = self.callers.room_wanted()
        if refused and self._random.random() < 0.7:
            node, window = refused.most_common(1)[0][0]
            found = [budget for budget in self.company.budgets if (budget.node, budget.window) == (node, window)]
            if found:
                return found[0]
        return self._random.choice(self.company.budgets)

    def _new_value(self, budget: Budget) -> int:
        """What was spent so far, and room for some seconds or for a few calls."""
        broad = budget.subject in ("org", POOL) or budget.subject.startswith("g")
        room = self._random.choice((0.5, 3, 10, 30) if broad else (0.1, 0.5, 2, 5))
        return self.callers.charged[budget.subject] + int(room * NANO)

    async def _keep_beating(self) -> None:
        while True:
            await self._in(self._beating, self.beat.turn)
            await asyncio.sleep(0.5)

    # --- how it comes to rest -------------------------------------------------------------------
    async def _come_to_rest(self) -> None:
        """Until nothing is held and every complete answer has its row, or for too long; then calls that must be admitted."""
        until = time.monotonic() + (NAIVE_REST_SECONDS if self.options.naive else REST_SECONDS)
        await asyncio.sleep(self.history.bounds.settle)
        while not (at_rest := await self._is_at_rest()) and time.monotonic() < until:
            await asyncio.sleep(0.5)
        if self.history.disturbances and at_rest and not self.options.naive:  # holds may have been legitimate until here
            bounds = self.history.bounds
            last = max(one.ended for one in self.history.disturbances) + bounds.lease + bounds.resolve
            await asyncio.sleep(max(0.0, last - time.time()))
        await self._probe()
        await asyncio.sleep(self.history.bounds.settle)
        self.history.cards = await self._cards()

    async def _is_at_rest(self) -> bool:
        try:
            cards = await self._cards()
            recorded = await self._in(self._managing, recorded_ids, self.company.organization)
        except Exception:
            await self._in(self._managing, connections.close_all)
            return False
        complete = {call.call_id for call in self.callers.made if call.outcome == "complete"}
        return not any(card.held for card in cards) and complete <= recorded

    async def _cards(self) -> list[Card]:
        return [card for key in self.company.keys for card in await self._cards_of(key)]

    async def _cards_of(self, name: str) -> list[Card]:
        seen = await client.call(self.callers.ports[0], key=self.company.keys[name].text, path="/v1/key")
        at = time.time()
        if seen.status == 401:
            return []  # the victim, switched off
        if seen.status != 200:
            raise ConnectionError(f"GET /v1/key: {seen.status}")
        return [
            Card(name, _node(entry), entry["window"], parse_usd(entry["spent"]), parse_usd(entry["held"]), at)
            for entry in json.loads(seen.body)["limits"]
            if entry["kind"] == "budget"
        ]

    async def _probe(self) -> None:
        """One small call of every key: whoever has room must be admitted. The judge knows who has."""
        for key in list(self.company.keys.values()):
            for worker in range(self.options.workers):
                await self.callers.make_plain(key, worker=worker)


def _readiness(seen: Seen) -> str:
    return str(json.loads(seen.body)["status"]) if seen.status in (200, 503) else "no answer"


def _node(entry: dict[str, Any]) -> str:
    return POOL_NODE if entry["level"] == "credit pool" else str(entry["node"])
