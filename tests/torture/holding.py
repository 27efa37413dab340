"""When a call may have held money, at most: from what its client saw, and from when what was broken.

The judge of refusals needs an upper bound, so every doubt makes the time longer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass

from tests.torture.history import Bounds, Call, Disturbance, History, Row


@dataclass(frozen=True, slots=True)
class Hold:
    """`row` is the call's own, where it is known: once recorded, its charge is no longer held."""

    since: float
    until: float
    worst: int
    row: Row | None


class Holds:
    """Every hold there may have been, by subject."""

    def __init__(self, history: History, rows: dict[str, Row]) -> None:
        self._by_subject: defaultdict[str, list[Hold]] = defaultdict(list)
        self._longest = 0.0
        for call in sorted(history.calls, key=lambda call: call.began):
            if call.outcome == "refused":
                continue
            row = rows.get(call.call_id)
            hold = Hold(call.began, held_until(call, row, history.disturbances, history.bounds), call.worst, row)
            self._longest = max(self._longest, hold.until - hold.since)
            for subject in call.subjects:
                self._by_subject[subject].append(hold)
        self._began = {subject: [hold.since for hold in holds] for subject, holds in self._by_subject.items()}

    def between(self, subject: str, since: float, until: float) -> list[Hold]:
        """Those that may have been there at some moment of the interval."""
        began = self._began.get(subject, [])
        first, last = bisect_right(began, since - self._longest - 1), bisect_right(began, until)
        return [hold for hold in self._by_subject[subject][first:last] if hold.until >= since]


def held_until(call: Call, row: Row | None, disturbances: list[Disturbance], bounds: Bounds) -> float:
    """The latest moment at which anything can still be held for the call."""
    # A complete answer goes out after its hold is gone; every other end is settled when nobody waits any more.
    until = call.ended if call.outcome == "complete" else call.ended + bounds.settle
    if row is not None and row.recorded > call.ended:
        until = max(until, row.recorded + bounds.settle)  # it waited for PostgreSQL
    for broken in sorted(disturbances, key=lambda broken: broken.began):
        if broken.began > until or broken.ended < call.began:
            continue
        if broken.kind != "kill":
            until = max(until, broken.ended + bounds.lease + bounds.resolve)
        elif broken.worker == call.worker:
            until = max(until, broken.began + bounds.lease + bounds.resolve, broken.ended + bounds.settle)
    return until
