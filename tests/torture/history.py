"""What one run leaves behind for the judge: what clients saw, what the ledger holds, what was set and what was broken when.

Moments are Unix seconds of one machine's clock (clients, workers and PostgreSQL share it); amounts are nano-dollars.
A subject is `org`, `g<id>`, `m<id>`, `k<id>`, `a<id>` or `pool`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Literal

# complete: every byte of the answer came, in a stream the terminal ones. left: the client hung up. broken: the connection
# ended before the answer did. refused: 4xx by the gateway. failed: 5xx, or an error frame in a stream. cut: the gateway
# ended a stream, because its key may no longer call, say.
Outcome = Literal["complete", "left", "broken", "refused", "failed", "cut"]
Window = Literal["day", "month", "total"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal for money: `node` and `window` name the budget, "pool" the credit pool."""

    node: str
    window: Window


@dataclass(slots=True)
class Call:
    """One request of a client. `worst` may be held for it, `full` is the price of its complete answer, by hand.

    `partial` is the most that may be charged where the client left or the connection broke. `call_id` is empty
    where the client never saw it.
    """

    number: int
    key: str
    subjects: tuple[str, ...]
    worker: int
    began: float
    ended: float
    worst: int
    full: int
    partial: int
    outcome: Outcome
    call_id: str = ""
    status: int = 0
    code: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A ledger row. `estimated` says that its model charges for input, whose tokens could only be estimated before."""

    call_id: str
    key: str
    subjects: tuple[str, ...]
    admitted: float
    recorded: float
    status: str
    charged: int
    reserved: int = 0
    estimated: bool = False


@dataclass(slots=True)
class Version:
    """One value of a limit: in force at most from `since` to `until`; while it was being changed both values may have been."""

    value: int
    since: float
    until: float = math.inf


@dataclass(slots=True)
class Budget:
    node: str
    subject: str
    window: Window
    versions: list[Version] = field(default_factory=list)

    def begin(self, value: int, at: float) -> None:
        """Somebody sets it now; until `done` says so, nobody knows when it counts, or whether."""
        self.versions.append(Version(value, at))

    def done(self, at: float) -> None:
        for version in self.versions[:-1]:
            version.until = min(version.until, at)

    def in_force(self, since: float, until: float) -> list[int]:
        return [version.value for version in self.versions if version.since <= until and version.until >= since]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """`ended`: when the worker or server was up again."""

    kind: Literal["kill", "flush", "restart", "stop"]
    began: float
    ended: float
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A budget as `GET /v1/key` showed it when everything was quiet."""

    key: str
    node: str
    window: Window
    spent: int
    held: int
    at: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds within which a hold must be gone: after an end that nobody waits for, and after its worker's death."""

    settle: float = 2.5
    lease: float = 4.0
    resolve: float = 4.0


@dataclass(slots=True)
class History:
    zone: tzinfo
    calls: list[Call] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    bounds: Bounds = field(default_factory=Bounds)

    def window(self, kind: Window, moment: float) -> str:
        """A name for the window that holds the moment."""
        day = datetime.fromtimestamp(moment, tz=self.zone).date()
        return {"day": day.isoformat(), "month": f"{day:%Y-%m}", "total": ""}[kind]
