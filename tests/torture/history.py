"""What one run leaves behind for the judge: what clients saw, what the ledger holds, what was set and what was broken when.

Moments are Unix seconds of one machine's clock (clients, workers and PostgreSQL share it); amounts are nano-dollars.
A subject is `org`, `g<id>`, `m<id>`, `k<id>`, `a<id>` or `pool`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Literal, NamedTuple

# complete: every byte of the answer came, in a stream the terminal ones. left: the client hung up. broken: the connection
# ended before the answer did. refused: 4xx by the gateway. failed: 5xx, or an error frame in a stream. cut: the gateway
# ended a stream, because its key may no longer call, say.
Outcome = Literal["complete", "left", "broken", "refused", "failed", "cut"]
Window = Literal["day", "month", "total"]
Kind = Literal["kill", "flush", "restart", "stop"]


class Finding(NamedTuple):
    """Something that must not be, and the money it is about."""

    nano_usd: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal for money: `node` and `window` name the budget, "pool" the credit pool."""

    node: str
    window: Window


@dataclass(slots=True)
class Call:
    """One request of a client. `worst` may be held for it, `full` is the price of its complete answer, by hand.

    `partial` is the most that may be charged where the client left or the connection broke. `call_id` is empty
    where the client never saw it. `whole_at`: when a stream had said all that its provider had to say; what comes after that
    is its end, which waits for the ledger.
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
    streamed: bool = False
    whole_at: float = math.inf

    @property
    def told(self) -> str:
        """As somebody looks for it in logs."""
        moment = datetime.fromtimestamp(self.ended, tz=UTC)
        which = f"call {self.number} {self.call_id or 'without id'} on worker {self.worker}"
        return f"{which}, {self.outcome} {self.code} {moment:%H:%M:%S.%f}"


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

    kind: Kind
    began: float
    ended: float
    worker: int | None = None


@dataclass(slots=True)
class Closing:
    """A key was revoked or switched off: nothing may be answered from `acknowledged`, when that had returned, to `reopened`.

    Reopened is it as soon as somebody begins to switch it on again.
    """

    key: str
    acknowledged: float
    reopened: float = math.inf


@dataclass(frozen=True, slots=True)
class Order:
    """What a run was to do at least; `stop_seconds`: how long PostgreSQL was to stay away each time."""

    calls: int = 0
    kills: int = 0
    flushes: int = 0
    restarts: int = 0
    stops: int = 0
    stop_seconds: float = 0.0


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
    """Seconds within which a hold must be gone: after an end that nobody waits for, and after its worker's death.

    `cut`: within which a stream of a closed key must end, the slowness of a machine included that runs all of it.
    """

    settle: float = 2.5
    lease: float = 4.0
    resolve: float = 4.0
    cut: float = 1.0 + 1.5


@dataclass(slots=True)
class History:
    zone: tzinfo
    calls: list[Call] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    order: Order = field(default_factory=Order)
    readiness: Counter[str] = field(default_factory=Counter)  # what /readyz of all workers said while PostgreSQL was away
    loaded_until: float = math.inf  # when the last call was made, but for those at the very end that everything rests for
    bounds: Bounds = field(default_factory=Bounds)

    def window(self, kind: Window, moment: float) -> str:
        """A name for the window that holds the moment."""
        day = datetime.fromtimestamp(moment, tz=self.zone).date()
        return {"day": day.isoformat(), "month": f"{day:%Y-%m}", "total": ""}[kind]
