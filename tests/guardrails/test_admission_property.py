"""Admission against a model that keeps every call in a list: whatever order things happen in, both agree to the nano-dollar.

The model knows the ledger (transactions that began, committed, were seen by a load) and counts with sets of
rows, so that counting twice or never cannot even be written down.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from pytest_django import Settings

from gateway_project.lib import ids, lifespan, redis
from gateway_project.lib.money import NANO
from guardrails import admission, counters, leases
from guardrails.admission import Admitted, Refused
from guardrails.limits import Kind, Limit, Limits
from guardrails.loading import Spend
from orgs import epoch
from tests.coroutines import active
from tests.examples import some
from tests.guardrails.books import DAY_MS, announced, now_ms

KEYS = ("k1", "k2")
SHARED = ("org", "pool")
# Budgets that count calls on own provider keys stand beside those that do not, on these.
WIDE = {"k1": "k1 wide", "org": "org wide"}
WITHIN_A_MINUTE = 40.0  # seconds: what remains is for the slowest of calls
MILLIONS = 9_100_000 * NANO
amounts = st.one_of(st.integers(0, 120), st.sampled_from([0, 1, 40, 100, MILLIONS, MILLIONS + 1]))
values = st.one_of(st.integers(0, 1000), st.sampled_from([0, MILLIONS, MILLIONS + 3, 2 * MILLIONS]))


@dataclass
class Call:
    """One call: admitted, then its transaction begins, commits, and is settled; or it is released."""

    held: Admitted
    own_only: bool = False
    known: bool = True  # Redis has its hold
    transaction: int = 0
    recorded_ms: int = 0
    charged: int = 0
    own: int = 0
    committed: bool = False

    @property
    def subjects(self) -> tuple[str, ...]:
        return self.held.subjects


@dataclass
class Ledger:
    """A SpendSource over the calls of the model."""

    made: list[Call] = field(default_factory=list)
    next_transaction: int = 100
    # What happens once between the reading of the figures and their arrival in Redis.
    meanwhile: Callable[[], Coroutine[Any, Any, object]] | None = None

    def begin(self) -> int:
        self.next_transaction += 1
        return self.next_transaction - 1

    def rows(self, subject: str) -> list[Call]:
        return [call for call in self.made if call.committed and subject in call.subjects]

    def snapshot(self) -> str:
        running = sorted(call.transaction for call in self.made if call.transaction and not call.committed)
        return f"{min(running, default=self.next_transaction)}:{self.next_transaction}:{','.join(map(str, running))}"

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Spend:
        charged, own = (self.figures(sort, starts_by_subject) for sort in ("charged", "own"))
        found = Spend(self.snapshot(), *charged, *own)
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        return found

    def figures(
        self, sort: str, starts_by_subject: Mapping[str, Sequence[int]]
    ) -> tuple[dict[str, int], dict[tuple[str, int], int]]:
        """Of all rows of each subject, and of those recorded before each start."""
        rows = {subject: self.rows(subject) for subject in starts_by_subject}
        before = {
            (subject, start): total([row for row in rows[subject] if row.recorded_ms < start], sort, subject)
            for subject, starts in starts_by_subject.items()
            for start in starts
        }
        return {subject: total(found, sort, subject) for subject, found in rows.items()}, before

    async def calls(self, *, organization_id: int, subject: str, since_ms: int) -> int:
        return 0


def total(calls: list[Call], sort: str, subject: str) -> int:
    """`sort` is charged or own; the pool pays nothing for calls on own provider keys."""
    return 0 if (sort, subject) == ("own", "pool") else sum(getattr(call, sort) for call in calls)


class Admissions(RuleBasedStateMachine):
    loop: asyncio.Runner

    @initialize(large=st.booleans())
    def a_new_organisation(self, large: bool) -> None:
        # A limit that refuses nothing, so large that all sums are taken in two limbs.
        self.large = large
        self.organization_id = secrets.randbelow(1 << 40) + (1 << 40)
        self.ledger = Ledger()
        self.running: list[Call] = []
        self.values = {"k1": 300, "k2": 500, "org": 600, "pool": 3000, "k1 wide": 400, "org wide": 900}
        self.rate = 1000
        self.rated = 0
        self.began = time.monotonic()
        self.clock = now_ms() - 3_600_000
        self.starts = self.clock - 1000
        # Rows that a counter, or a window's baseline, has counted; absent where it is not loaded.
        self.counted: dict[str, list[UUID]] = {}
        self.before: dict[tuple[str, int], list[UUID]] = {}
        redis.client().set(epoch.keys(self.organization_id)[0], "e")
        self.token = announced(self.organization_id)

    # --- the model ---------------------------------------------------------------------------

    def limits(self, key: str) -> Limits:
        subjects = (key, *SHARED)
        ends = now_ms() + DAY_MS
        window = {"starts_ms": self.starts, "ends_ms": ends, "until_ms": ends}
        budgets = []
        for at, name in enumerate(subjects):
            budgets.append(self.limit("budget", self.values[name], at, name, **({} if name == "pool" else window)))
            if name in WIDE:
                wide = WIDE[name]
                budgets.append(self.limit("budget", self.values[wide], at, wide, counts_byok=True, **window))
        if self.large:
            budgets.append(self.limit("budget", 9 * 10**15 + 1, subjects.index("org"), "large"))
        rates = [self.limit("rpm", self.rate, 0, key)] if self.is_rated(key) else []
        return Limits(self.organization_id, self.token, subjects, (*rates, *budgets))

    @staticmethod
    def limit(kind: Kind, value: int, at: int, node: str, **window: Any) -> Limit:
        return Limit(id=0, kind=kind, window="", value=value, subject=at, level=node, node=node, policy="", **window)

    def is_rated(self, key: str) -> bool:
        """A minute counts what began within it: where the machine takes that long for one example, the model could not say."""
        return key == "k2" and time.monotonic() - self.began < WITHIN_A_MINUTE

    def sum(self, rows: list[UUID], sort: str, subject: str) -> int:
        by_id = {call.held.call_id: call for call in self.ledger.made}
        return total([by_id[row] for row in rows], sort, subject)

    def used(self, budget: str) -> int:
        subject, _, wide = budget.partition(" ")
        baseline = [] if subject == "pool" else self.before[subject, self.starts]
        sorts = ("charged", "own") if wide else ("charged",)
        return sum(self.sum(self.counted[subject], sort, subject) - self.sum(baseline, sort, subject) for sort in sorts)

    def held(self, budget: str) -> int:
        subject, _, wide = budget.partition(" ")
        return self.holds(subject) if wide else self.holds(subject) - self.holds(subject, own_only=True)

    def holds(self, subject: str, *, own_only: bool = False) -> int:
        running = [call for call in self.running if call.known and subject in call.subjects]
        return sum(call.held.amount_nano_usd for call in running if call.own_only or not own_only)

    def load(self, key: str) -> None:
        for subject in (key, *SHARED):
            rows = self.ledger.rows(subject)
            self.counted.setdefault(subject, [row.held.call_id for row in rows])
            if subject != "pool":
                before = [row.held.call_id for row in rows if row.recorded_ms < self.starts]
                self.before.setdefault((subject, self.starts), before)

    def is_cold(self, key: str) -> bool:
        subjects = (key, *SHARED)
        return any(name not in self.counted for name in subjects) or any(
            (name, self.starts) not in self.before for name in subjects if name != "pool"
        )

    def forget(self, call: Call) -> None:
        """The call is settled: what it charged counts wherever it did not yet."""
        self.running.remove(call)
        for subject in call.subjects:
            self.count(self.counted.get(subject), call)
            for (of, start), before in self.before.items():
                if of == subject and call.recorded_ms < start:
                    self.count(before, call)

    @staticmethod
    def count(rows: list[UUID] | None, call: Call) -> None:
        if rows is not None and call.held.call_id not in rows:
            rows.append(call.held.call_id)

    @staticmethod
    async def commit_and_settle(call: Call) -> bool:
        call.committed = True
        return await admission.settle(
            call.held,
            charged=call.charged,
            own=call.own,
            transaction_id=call.transaction,
            recorded_at=datetime.fromtimestamp(call.recorded_ms / 1000, tz=UTC),
        )

    # --- what happens ------------------------------------------------------------------------

    @rule(
        key=st.sampled_from(KEYS),
        amount=amounts,
        least=st.one_of(st.none(), amounts),
        interrupted=st.booleans(),
        own_only=st.booleans(),
    )
    def a_call_arrives(self, key: str, amount: int, least: int | None, interrupted: bool, own_only: bool) -> None:
        least = None if least is None else min(least, amount)
        begun = [call for call in self.running if call.transaction]
        another = begun[-1] if interrupted and begun and self.is_cold(key) else None
        self.load(key)
        if another is not None:
            self.ledger.meanwhile = lambda: self.commit_and_settle(another)
            self.forget(another)
        budgets = [name for subject in (key, *SHARED) for name in (subject, WIDE.get(subject, ""))]
        asked = [name for name in budgets if name and (name in WIDE.values() or not own_only)]
        room = {name: self.values[name] - self.used(name) - self.held(name) for name in asked}
        limits = self.limits(key)
        rated = any(limit.kind == "rpm" for limit in limits.limits)

        outcome = self.loop.run(
            admission.admit(
                limits,
                epoch="e",
                call_id=ids.new_call_id(),
                amount=amount,
                least=least,
                tokens=0,
                may_degrade=False,
                context="{}",
                source=self.ledger,
                own_only=own_only,
            )
        )

        tightest = min(room, key=lambda subject: room[subject])
        affordable = amount if room[tightest] >= amount else room[tightest] if least is not None else -1
        passes = affordable >= 0 and (affordable == amount or affordable >= (least or 0))
        if not passes:
            assert isinstance(outcome, Refused)
            assert (outcome.limit.node, outcome.limit.kind) == (tightest, "budget")
            assert (outcome.used, outcome.held) == (self.used(tightest), self.held(tightest))
        elif rated and self.rated >= self.rate:
            assert isinstance(outcome, Refused)
            assert (outcome.limit.kind, outcome.used) == ("rpm", self.rated)
        else:
            assert isinstance(outcome, Admitted)
            assert (outcome.amount_nano_usd, outcome.clamped) == (affordable, affordable < amount)
            assert outcome.left_nano_usd == room[tightest] - affordable
            self.rated += rated
            call = Call(outcome, own_only)
            self.running.append(call)
            self.ledger.made.append(call)

    @precondition(lambda self: any(not call.transaction for call in self.running))
    @rule(choice=st.randoms(use_true_random=False), part=st.integers(0, 4), last_of_its_window=st.booleans(), own=st.booleans())
    def its_transaction_begins(self, choice: object, part: int, last_of_its_window: bool, own: bool) -> None:
        """What could be served either way is charged or not, as it went."""
        call = choice.choice([call for call in self.running if not call.transaction])  # type: ignore[attr-defined]
        call.transaction = self.ledger.begin()
        cost = call.held.amount_nano_usd * part // 4
        call.charged, call.own = (0, cost) if own or call.own_only else (cost, 0)
        self.clock += 1
        call.recorded_ms = self.clock
        if last_of_its_window:
            self.a_new_window_begins()

    @precondition(lambda self: any(call.transaction and not call.committed for call in self.running))
    @rule(choice=st.randoms(use_true_random=False))
    def it_commits(self, choice: object) -> None:
        waiting = [call for call in self.running if call.transaction and not call.committed]
        choice.choice(waiting).committed = True  # type: ignore[attr-defined]

    @precondition(lambda self: any(call.committed for call in self.running))
    @rule(choice=st.randoms(use_true_random=False), times=st.integers(1, 2))
    def it_is_settled(self, choice: object, times: int) -> None:
        call = choice.choice([call for call in self.running if call.committed])  # type: ignore[attr-defined]
        for already in range(times):
            assert self.loop.run(self.commit_and_settle(call)) == (not already)
        self.forget(call)

    @precondition(lambda self: any(not call.transaction for call in self.running))
    @rule(choice=st.randoms(use_true_random=False))
    def a_call_is_released(self, choice: object) -> None:
        call = choice.choice([call for call in self.running if not call.transaction])  # type: ignore[attr-defined]
        assert self.loop.run(admission.release(call.held))
        self.running.remove(call)

    @rule(subject=st.sampled_from((*KEYS, *SHARED, *WIDE.values())), value=values, rate=st.sampled_from([0, 3, 1000, 1000]))
    def limits_are_raised_or_lowered(self, subject: str, value: int, rate: int) -> None:
        self.values[subject] = value
        self.rate = rate

    @rule(pause=st.sampled_from([0, 7]))
    def a_new_window_begins(self, pause: int = 7) -> None:
        """Without a pause it begins in the millisecond of the last row."""
        self.clock += pause
        self.starts = self.clock

    @rule(lose_holds=st.booleans())
    def redis_forgets(self, lose_holds: bool) -> None:
        """Everything, or, where nothing is held, the counters alone."""
        if any(call.known for call in self.running) and not lose_holds:
            return
        if found := list(redis.client().scan_iter(match=f"gh:{{{self.organization_id}}}:*", count=1000)):
            redis.client().delete(*found)
        redis.client().set(epoch.keys(self.organization_id)[0], "e")
        announced(self.organization_id)
        self.counted.clear()
        self.before.clear()
        self.rated = 0
        for call in self.running:
            call.known = False

    # --- what must hold ----------------------------------------------------------------------

    @invariant()
    def redis_agrees_with_the_model(self) -> None:
        pipeline = redis.client().pipeline(transaction=False)
        for subject in self.counted:
            pipeline.hmget(counters.counter(self.organization_id, self.token, subject), ["spent", "own", "held", "held_own"])
        pipeline.hkeys(counters.holds(self.organization_id, self.token))
        *found, holds = pipeline.execute()
        for subject, (spent, own, held, held_own) in zip(self.counted, found, strict=True):
            assert int(spent or 0) == self.sum(self.counted[subject], "charged", subject)
            assert int(own or 0) == self.sum(self.counted[subject], "own", subject)
            assert int(held or 0) == self.holds(subject)
            assert int(held_own or 0) == self.holds(subject, own_only=True)
        assert {UUID(call.decode()) for call in holds} == {call.held.call_id for call in self.running if call.known}

    @invariant()
    def with_no_call_in_flight_every_counter_equals_the_ledger(self) -> None:
        if self.running:
            return
        for sort in ("charged", "own"):
            for subject, rows in self.counted.items():
                assert self.sum(rows, sort, subject) == total(self.ledger.rows(subject), sort, subject)
            for (subject, start), before in self.before.items():
                rows_before = [row for row in self.ledger.rows(subject) if row.recorded_ms < start]
                assert self.sum(before, sort, subject) == total(rows_before, sort, subject)


@pytest.fixture
def worker(settings: Settings) -> Iterator[None]:
    """One loop with Redis and a lease for all examples. It stands still between two steps, so no step may be too late."""
    settings.LEASE_SECONDS = settings.GUARDRAILS_TIMEOUT_SECONDS = 600.0
    redis.client.cache_clear()

    async def begin() -> None:
        redis.scripts()
        await leases.start()

    with asyncio.Runner() as runner:
        runner.run(begin())
        Admissions.loop = runner
        before = active()
        yield
        runner.run(lifespan.stop())
        for organization in active() - before:
            redis.client().srem(counters.ACTIVE_ORGANIZATIONS, organization)
    redis.client.cache_clear()


@pytest.mark.timeout(600)  # seven seconds of work, each step of which waits for Redis
def test_redis_and_the_model_agree_whatever_happens(worker: None) -> None:
    run_state_machine_as_test(
        Admissions,
        settings=settings(
            max_examples=some(100),
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
