"""Keys that were closed: from the moment that was acknowledged no worker answers their calls, and their streams end.

Two witnesses, clients and the ledger: who left early saw nothing, but a row tells when its call began.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TypeVar

from tests.torture.history import Call, Closing, Finding, History, Row

# A call's id tells the millisecond in which it began, by the same clock.
CLOCK_SECONDS = 0.002

T = TypeVar("T", Call, Row)


def served(history: History) -> list[Finding]:
    """What was answered, charged or relayed for a key that was closed."""
    calls, rows = _by_key(history.calls), _by_key(history.rows)
    admitted = {row.call_id: row.admitted for row in history.rows}
    findings = []
    for closing in history.closings:
        late = _cut_by(closing, history)
        findings += [_answered(call, closing) for call in calls[closing.key] if _began_while_closed(call, closing)]
        findings += [_charged(row, closing) for row in rows[closing.key] if _admitted_while_closed(row, closing)]
        open_then = [call for call in calls[closing.key] if admitted.get(call.call_id, call.began) < closing.acknowledged]
        findings += [_relayed(call, closing) for call in open_then if _went_on(call, closing, late)]
    return findings


def _by_key(found: list[T]) -> defaultdict[str, list[T]]:
    result: defaultdict[str, list[T]] = defaultdict(list)
    for one in found:
        result[one.key].append(one)
    return result


def _began_while_closed(call: Call, closing: Closing) -> bool:
    """Answered at all: where the key was opened again before the answer came, it may have been read after that."""
    return call.status == 200 and call.began >= closing.acknowledged and call.ended <= closing.reopened


def _admitted_while_closed(row: Row, closing: Closing) -> bool:
    """A call's time is when it came. It may have waited then, for PostgreSQL or a generation, until the key was open again."""
    came_while_closed = closing.acknowledged + CLOCK_SECONDS < row.admitted < closing.reopened - CLOCK_SECONDS
    return row.charged > 0 and came_while_closed and row.recorded <= closing.reopened


def _went_on(call: Call, closing: Closing, late: float) -> bool:
    """Of one that was open as its key was closed: a caller may wait for a worker, and be let in once it is open again.

    Of one whose provider had finished, nothing but the end came: that waits for the ledger, as long as that takes.
    """
    return call.streamed and call.status == 200 and closing.reopened > late and min(call.ended, call.whole_at) > late


def _cut_by(closing: Closing, history: History) -> float:
    """When the last stream must have ended. Who cannot ask whether a key is still open goes on until it can."""
    bounds = history.bounds
    until = closing.acknowledged + bounds.cut
    for broken in sorted(history.disturbances, key=lambda broken: broken.began):
        if broken.kind != "kill" and broken.began <= until and broken.ended >= closing.acknowledged:
            until = max(until, broken.ended + bounds.resolve + bounds.cut)
    return until


def _answered(call: Call, closing: Closing) -> Finding:
    return Finding(call.full, f"{call.told}: began {call.began - closing.acknowledged:.3f} s after key {call.key} was closed")


def _charged(row: Row, closing: Closing) -> Finding:
    after = row.admitted - closing.acknowledged
    return Finding(row.charged, f"{row.call_id} ({row.status}): began {after:.3f} s after key {row.key} was closed, and charged")


def _relayed(call: Call, closing: Closing) -> Finding:
    return Finding(
        call.partial, f"{call.told}: went on {call.ended - closing.acknowledged:.3f} s after key {call.key} was closed"
    )
