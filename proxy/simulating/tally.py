"""What a replay adds up: refusals by limit, subject and day, the first of each window, the dearest. Pure.

Its size depends on how many subjects and windows there are, not on how many calls.
"""

from __future__ import annotations

from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from proxy.simulating.replay import Row, Verdict

SAMPLE = 50


class Sum:
    """Calls, and nano-dollars that they cost."""

    __slots__ = ("calls", "nano_usd")

    def __init__(self, calls: int = 0, nano_usd: int = 0) -> None:
        self.calls, self.nano_usd = calls, nano_usd

    def add(self, nano_usd: int) -> None:
        self.calls += 1
        self.nano_usd += nano_usd


class First(NamedTuple):
    """The first refusal of one subject by one limit in one window: time in milliseconds; and how many there were."""

    at: int
    call_id: UUID
    sum: Sum


class Sampled(NamedTuple):
    """Sorts by cost; of equal ones the earlier is greater."""

    nano_usd: int
    before: int
    call_id: UUID
    number: int
    subject: str
    model: str


class Tally:
    """`by_subject` keys are (subject, number); `by_day` keys starts of days in seconds: (let through, refused); `firsts` keys
    (number, subject, start of window).
    """

    def __init__(self) -> None:
        self.passed, self.refused = Sum(), Sum()
        self.by_number: dict[int, Sum] = {}
        self.by_subject: dict[tuple[str, int], Sum] = {}
        self.by_day: dict[int, tuple[Sum, Sum]] = {}
        self.firsts: dict[tuple[int, str, int], First] = {}
        self.dearest: list[Sampled] = []

    def let_through(self, nano_usd: int, *, day: int) -> None:
        self.passed.add(nano_usd)
        self._day(day)[0].add(nano_usd)

    def refuse(self, row: Row, *, at: int, day: int, verdict: Verdict, window: int) -> None:
        """`at` in milliseconds; `day` and `window`: their starts in seconds."""
        call_id, nano_usd, model = row[0], row[2], row[6]
        number, subject = verdict
        self.refused.add(nano_usd)
        self._day(day)[1].add(nano_usd)
        self.by_number.setdefault(number, Sum()).add(nano_usd)
        self.by_subject.setdefault((subject, number), Sum()).add(nano_usd)
        self.firsts.setdefault((number, subject, window), First(at, call_id, Sum())).sum.add(nano_usd)
        self._sample(Sampled(nano_usd, -at, call_id, number, subject, model))

    def _day(self, day: int) -> tuple[Sum, Sum]:
        return self.by_day.setdefault(day, (Sum(), Sum()))

    def _sample(self, call: Sampled) -> None:
        if len(self.dearest) < SAMPLE:
            heappush(self.dearest, call)
        elif call > self.dearest[0]:
            heappushpop(self.dearest, call)
