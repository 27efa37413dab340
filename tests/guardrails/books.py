"""Limits written by hand, a ledger that tests script, and a look at what Redis holds."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from gateway_project.lib import ids, redis
from guardrails import admission, counters
from guardrails.admission import Admitted, Degrade, Refused
from guardrails.limits import Kind, Limit, Limits
from guardrails.loading import Spend
from orgs import epoch

SUBJECTS = ("k1", "m1", "g1", "org", "pool")
EPOCH = "epoch-of-the-test"
# A snapshot that sees every transaction below 1000.
SNAPSHOT = "1000:1000:"
DAY_MS = 86_400_000


def now_ms() -> int:
    seconds, microseconds = redis.client().time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def budget(value: int, subject: str = "org", *, starts_ms: int = 0, ends_ms: int = 0, counts_byok: bool = False) -> Limit:
    window: Any = "day" if starts_ms else "total"
    times = {"starts_ms": starts_ms, "ends_ms": ends_ms, "until_ms": ends_ms}
    return limit("budget", value, subject, window=window, counts_byok=counts_byok, **times)


def rpm(value: int, subject: str = "k1") -> Limit:
    return limit("rpm", value, subject, window="minute")


def limit(kind: Kind, value: int, subject: str, **more: Any) -> Limit:
    facts = {"window": "now", "level": "level", "node": subject, "policy": "policy"} | more
    return Limit(id=0, kind=kind, value=value, subject=SUBJECTS.index(subject), **facts)


def generation() -> str:
    """The token in force on this server; the first to ask makes one."""
    run_id = redis.client().info("server")["run_id"]
    found: Any = redis.client().get(counters.GENERATION)
    known, _, token = (found or b"").decode().partition(":")
    if known == run_id:
        return str(token)
    redis.client().set(counters.GENERATION, f"{run_id}:{secrets.token_hex(4)}")
    return generation()


def announced(organization_id: int) -> str:
    """The token under which this organisation counts, as if a call had been made → the token."""
    token = generation()
    run_id = redis.client().info("server")["run_id"]
    redis.client().set(counters.generation(organization_id), f"{run_id}:{token}")
    return token


class Books:
    """A SpendSource whose figures the test sets; what nobody set is zero. `asked` counts (subject, starts)."""

    def __init__(
        self,
        spent: Mapping[str, int] | None = None,
        before: Mapping[tuple[str, int], int] | None = None,
        *,
        own: Mapping[str, int] | None = None,
        own_before: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        self.spent = dict(spent or {})
        self.before = dict(before or {})
        self.own = dict(own or {})
        self.own_before = dict(own_before or {})
        self.counted: dict[tuple[str, int], int] = {}
        self.snapshot = SNAPSHOT
        self.asked: Counter[tuple[str, tuple[int, ...]]] = Counter()

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Spend:
        self.asked.update((subject, tuple(starts)) for subject, starts in starts_by_subject.items())
        return Spend(
            self.snapshot,
            {subject: self.spent.get(subject, 0) for subject in starts_by_subject},
            {
                (subject, start): self.before.get((subject, start), 0)
                for subject, starts in starts_by_subject.items()
                for start in starts
            },
            self.own,
            self.own_before,
        )

    async def calls(self, *, organization_id: int, subject: str, since_ms: int) -> int:
        return self.counted.get((subject, since_ms), 0)


class Desk:
    """An organisation of one test, with its limits and books."""

    def __init__(self, *limits: Limit, books: Books | None = None) -> None:
        self.organization_id = secrets.randbelow(1 << 40) + (1 << 40)
        self.books = books or Books()
        self.token = generation()
        self.set(*limits)
        redis.client().set(epoch.keys(self.organization_id)[0], EPOCH)
        announced(self.organization_id)

    def set(self, *limits: Limit) -> None:
        """Other limits from now on; most specific first."""
        ordered = tuple(sorted(limits, key=lambda limit: limit.subject))
        self.limits = Limits(self.organization_id, self.token, SUBJECTS, ordered)

    async def admit(
        self,
        amount: int,
        *,
        least: int | None = None,
        call_id: UUID | None = None,
        epoch: str = EPOCH,
        tokens: int = 0,
        may_degrade: bool = False,
        own_only: bool = False,
    ) -> Admitted | Refused | Degrade:
        return await admission.admit(
            self.limits,
            epoch=epoch,
            call_id=call_id or ids.new_call_id(),
            amount=amount,
            least=least,
            tokens=tokens,
            may_degrade=may_degrade,
            context="{}",
            source=self.books,
            own_only=own_only,
        )

    async def admitted(
        self,
        amount: int = 0,
        *,
        least: int | None = None,
        call_id: UUID | None = None,
        tokens: int = 0,
        own_only: bool = False,
    ) -> Admitted:
        outcome = await self.admit(amount, least=least, call_id=call_id, tokens=tokens, own_only=own_only)
        assert isinstance(outcome, Admitted), outcome
        return outcome

    async def refused(self, amount: int = 0, *, least: int | None = None, tokens: int = 0, own_only: bool = False) -> Refused:
        outcome = await self.admit(amount, least=least, tokens=tokens, own_only=own_only)
        assert isinstance(outcome, Refused), outcome
        return outcome

    def counter(self, subject: str) -> dict[str, str]:
        found: Any = redis.client().hgetall(counters.counter(self.organization_id, self.token, subject))
        return {name.decode(): value.decode() for name, value in found.items()}

    def spent(self, subject: str = "org") -> int:
        return int(self.counter(subject)["spent"])

    def held(self, subject: str = "org") -> int:
        return int(self.counter(subject)["held"])

    def holds(self) -> dict[str, str]:
        found: Any = redis.client().hgetall(counters.holds(self.organization_id, self.token))
        return {name.decode(): value.decode() for name, value in found.items()}

    def everything(self) -> dict[str, Any]:
        """Every key of this organisation with its value, but for how far rates were pruned: that follows the clock."""
        client = redis.client()
        found = {}
        for key in client.scan_iter(match=f"gh:{{{self.organization_id}}}:*", count=1000):
            value: Any = client.hgetall(key) if client.type(key) == b"hash" else client.get(key)
            if isinstance(value, dict):
                value.pop(b"pruned", None)
                value.pop(b"tpruned", None)
            found[key.decode()] = value
        return found


async def settle(
    held: Admitted,
    charged: int,
    *,
    own: int = 0,
    transaction_id: int = 1000,
    recorded_ms: int | None = None,
    tokens: int | None = None,
) -> bool:
    """As after a commit that the counters' snapshot did not see."""
    moment = datetime.fromtimestamp((now_ms() if recorded_ms is None else recorded_ms) / 1000, tz=UTC)
    return await admission.settle(
        held, charged=charged, own=own, transaction_id=transaction_id, recorded_at=moment, tokens=tokens
    )
