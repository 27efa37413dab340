"""What a call that is over tells of the deployment that served it: its speed, what it took of its minute, that it broke off."""

from __future__ import annotations

import time

from billing.ledger import Row
from proxy.call import Call
from proxy.errors import AttemptFailed
from proxy.health import board, quotas


def over(call: Call, row: Row) -> None:
    """Once it is known what was used. Of a call that closes twice only the first time counts."""
    reservation, call.reservation = call.reservation, None
    if reservation is not None:
        cached = row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens
        quotas.settle(reservation, tokens=row.input_tokens + cached + row.output_tokens)
    served, began = call.served_by, call.answer_began
    call.answer_began = None
    if served is not None and began is not None and row.status == "ok" and not row.usage_estimated:
        board.current().answered(served, tokens=row.output_tokens, seconds=time.monotonic() - began)


def broke_off(call: Call, failure: AttemptFailed) -> None:
    """A stream that had begun."""
    if call.served_by is not None and call.first_token is not None:
        board.current().failed(call.served_by, failure, began=call.first_token)


def never_answered(call: Call) -> None:
    """The time of the whole call went by in its only attempt. Where there were several, nobody knows whose fault it was."""
    if len(call.attempts) == 1 and call.served_by is not None:
        board.current().failed(call.served_by, AttemptFailed("timeout", "No answer in time."), began=call.started)
