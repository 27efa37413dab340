"""Refusals: what the caller is told of the limit that triggered, and the row that remembers it.

A program that keeps calling against a limit must not become a flood of writes: beyond so many refusals
of one key for one reason in a minute, the rest of the minute is one row with a count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billing.ledger import Row
from gateway_project.lib.money import exact_usd
from guardrails.admission import Refused
from proxy import recording, settling
from proxy.call import Call
from proxy.errors import BudgetExceeded, InsufficientCredits, ProxyError, RateLimitExceeded

ROWS_PER_MINUTE = 60
RAISE = "an admin above this level can raise the limit"
TOP_UP = "a Super Admin or L1 Admin can top up the credit"

_counts: dict[tuple[int, str, int], int] = {}
_gathered: dict[tuple[int, str, int], tuple[Call, Row]] = {}


def error_of(outcome: Refused) -> ProxyError:
    """The limit, its figures and when it resets, in words and as `error.gatehouse`."""
    limit = outcome.limit
    where = f"the {limit.level} {limit.node!r}"
    if limit.kind == "rpm":
        return RateLimitExceeded(
            f"The rate limit of {limit.value} requests per minute on {where} is reached.",
            retry_after=outcome.retry_after_ms / 1000,
            detail=_detail(
                outcome,
                {"limit": limit.value, "spent": outcome.used, "held": 0},
                resets_ms=outcome.at_ms + outcome.retry_after_ms,
            ),
        )
    money = {"limit": exact_usd(limit.value), "spent": exact_usd(outcome.used), "held": exact_usd(outcome.held)}
    figures = f"${money['spent']} spent and ${money['held']} held of ${money['limit']}"
    if limit.is_pool:
        return InsufficientCredits(
            f"The prepaid credit of {limit.node} does not cover this call: {figures}. It has to be topped up.",
            detail=_detail(outcome, money, resets_ms=limit.ends_ms),
        )
    window = {"day": "today", "month": "this month", "total": "in total"}[limit.window]
    return BudgetExceeded(
        f"The budget of {where} does not cover this call: {figures} {window}.",
        detail=_detail(outcome, money, resets_ms=limit.ends_ms),
    )


def _detail(outcome: Refused, figures: Mapping[str, object], *, resets_ms: int) -> dict[str, Any]:
    limit = outcome.limit
    return {
        "level": limit.level,
        "node": limit.node,
        "policy": limit.policy,
        "window": limit.window,
        **figures,
        "resets_at": datetime.fromtimestamp(resets_ms / 1000, tz=UTC).isoformat() if resets_ms else None,
        "ask": TOP_UP if limit.is_pool else RAISE,
    }


def record(call: Call, error: ProxyError) -> None:
    """One row, or one more in the count of this minute's."""
    row = recording.refused(call, error)
    minute = int(time.time() // 60)
    key = (call.principal.key_id, row.error_code, minute)
    count = _counts[key] = _counts.get(key, 0) + 1
    if count == 1:
        seconds_left = (minute + 1) * 60 - time.time()
        asyncio.get_running_loop().call_later(seconds_left, flush, key)
    if count <= ROWS_PER_MINUTE:
        settling.close_later(call, row)
    elif key in _gathered:
        _gathered[key][1].call_count += 1
    else:
        _gathered[key] = (call, row)


def flush(key: tuple[int, str, int]) -> None:
    """The minute is over: what was gathered becomes one row."""
    _counts.pop(key, None)
    gathered = _gathered.pop(key, None)
    if gathered is not None:
        settling.close_later(*gathered)


async def flush_all() -> None:
    """The process ends: nothing gathered is lost."""
    for key in list(_counts):
        flush(key)
