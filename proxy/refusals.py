"""Refusals: what the caller is told of the limit that triggered, and the row that remembers it.

A program that keeps calling against a limit must not become a flood of writes: beyond so many refusals
of one key with one error code in a minute, the rest of the minute is one row with a count. All else that it says is the
first one's; of where a request was wrong, which may differ from call to call, pages therefore say nothing (analytics/reasons.py).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from billing.ledger import Row
from gateway_project.lib.money import exact_usd
from guardrails.admission import Refused
from guardrails.limits import WINDOW_WORDS, Limit
from proxy import recording, sentences, settling
from proxy.call import Call
from proxy.errors import (
    BudgetExceeded,
    ConcurrencyLimitExceeded,
    InsufficientCredits,
    ProxyError,
    RateLimitExceeded,
    RateRefused,
    TokenRateLimitExceeded,
)
from proxy.routing import Plan

ROWS_PER_MINUTE = 60
# What SDKs wait at most before they try again.
PATIENCE_MS = 60_000
RAISE = "an admin above this level can raise the limit"
RAISE_ALL = "a Super Admin can raise the limit"
TOP_UP = "whoever runs this gateway adds credit; a Super Admin can ask them"

_counts: dict[tuple[int, str, int], int] = {}
_gathered: dict[tuple[int, str, int], tuple[Call, Row]] = {}


class Needs(NamedTuple):
    """What did not fit. `tokens`: what the call counts in rates of tokens; more than the limit, and waiting is of no use.

    `prompt`: how many of these it sends. `nano_usd`: what it could cost at most; `shortened`: with the shortest answer that a
    budget may bound it to.
    """

    tokens: int = 0
    nano_usd: int = 0
    shortened: bool = False
    prompt: int = 0


def needs_of(plan: Plan | None, *, prompt: int) -> Needs:
    """None: the call was refused before it got a plan, which no limit of tokens or money does."""
    if plan is None:
        return Needs()
    if plan.least is None:
        return Needs(plan.tokens, plan.worst_case, prompt=prompt)
    return Needs(plan.tokens, plan.least, shortened=True, prompt=prompt)


def told(call: Call, outcome: Refused) -> ProxyError:
    """What this call's caller is told."""
    needs = needs_of(call.plan, prompt=call.asked.input_tokens_estimate)
    return error_of(outcome, needs, bound=call.asked.max_tokens_field)


def error_of(outcome: Refused, needs: Needs, *, bound: str = "") -> ProxyError:
    """The limit, its figures and when it resets, in words and as `error.gatehouse`.

    `bound`: the member with which the caller can ask for less, if its protocol has one.
    """
    limit = outcome.limit
    if limit.kind == "budget":
        return _money(outcome, needs)
    error = _rate(outcome, RATES[limit.kind])
    if limit.kind == "tpm" and needs.tokens > limit.value:
        error.message = f"{error.message} {_too_large(needs, limit, bound=bound)}"
        error.should_retry = False
    else:
        error.message = f"{error.message} {_again(outcome, error)}"
    return error


def _too_large(needs: Needs, limit: Limit, *, bound: str) -> str:
    if needs.prompt >= limit.value:
        return f"Its prompt alone counts {needs.prompt}: send less."
    return f"It may need {needs.tokens}: ask for less{bound and f', with {bound}'}."


def _again(outcome: Refused, error: ProxyError) -> str:
    """When to come again, for callers who read nothing but the sentence."""
    seconds = math.ceil(error.retry_after or 0)
    if error.should_retry is False:
        return f"It resets {_clock(outcome.at_ms + seconds * 1000)}; {_ask(outcome.limit)}."
    return f"Try again in {seconds:,} second{'' if seconds == 1 else 's'}."


class Rate(NamedTuple):
    error: type[RateRefused]
    sentence: str


RATES = {
    "rpm": Rate(RateLimitExceeded, "The rate limit of {value} request{s} per minute on {where} is reached."),
    "rpd": Rate(RateLimitExceeded, "The limit of {value} request{s} per day on {where} is reached."),
    "tpm": Rate(TokenRateLimitExceeded, "The rate limit of {value} token{s} per minute on {where} does not cover this call."),
    "parallel": Rate(ConcurrencyLimitExceeded, "The limit of {value} call{s} at the same time on {where} is reached."),
}


def _rate(outcome: Refused, rate: Rate) -> ProxyError:
    limit, retry_ms = outcome.limit, outcome.retry_after_ms
    if limit.kind == "rpd":  # an exception that ends before the day does makes the limit lower, not free
        retry_ms = limit.ends_ms - outcome.at_ms
    figures = {"limit": limit.value, "spent": outcome.used, "held": 0}
    return rate.error(
        rate.sentence.format(value=limit.value, s="" if limit.value == 1 else "s", where=_where(limit)),
        retry_after=retry_ms / 1000,
        # An SDK that waits a minute may succeed; one that waited for the day to end would seem to hang.
        should_retry=None if retry_ms <= PATIENCE_MS else False,
        detail=_detail(outcome, figures, resets_ms=0 if limit.kind == "parallel" else outcome.at_ms + retry_ms),
    )


def _money(outcome: Refused, needs: Needs) -> ProxyError:
    limit = outcome.limit
    spent = max(0, outcome.used - limit.forgiven)
    exact = sentences.Figures(limit.shown_value, spent, outcome.held, needs.nano_usd)
    told = sentences.short(exact)
    call = f"this call, which could cost up to {told.needed}{' even if shortened' if needs.shortened else ''}"
    figures = f"{told.spent} spent and {told.held} held of {told.limit}"
    money = {name: exact_usd(amount) for name, amount in exact._asdict().items()}
    detail = _detail(outcome, money, resets_ms=limit.ends_ms)
    if limit.is_pool:
        return InsufficientCredits(
            f"The prepaid credit of {limit.node} does not cover {call}: {figures}. {TOP_UP[0].upper()}{TOP_UP[1:]}.",
            detail=detail,
        )
    resets = f"It resets {_clock(limit.ends_ms)}" if limit.ends_ms else "It never resets"
    return BudgetExceeded(
        f"The budget of {_where(limit)} does not cover {call}: {figures} {WINDOW_WORDS[limit.window]}. {resets}; {_ask(limit)}.",
        detail=detail,
    )


def _where(limit: Limit) -> str:
    return f"the {limit.level} {limit.node!r}"


def _detail(outcome: Refused, figures: Mapping[str, object], *, resets_ms: int) -> dict[str, Any]:
    limit = outcome.limit
    return {
        "level": limit.level,
        "node": limit.node,
        "policy": limit.policy,
        "kind": limit.kind,
        "window": limit.window,
        **figures,
        "resets_at": _moment(resets_ms) if resets_ms else None,
        "ask": _ask(limit),
    }


def _moment(at_ms: int) -> str:
    """RFC 3339 in whole seconds, rounded up: who waits until then has waited long enough."""
    return datetime.fromtimestamp(math.ceil(at_ms / 1000), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ask(limit: Limit) -> str:
    return TOP_UP if limit.is_pool else RAISE_ALL if limit.level == "organization" else RAISE


def _clock(at_ms: int) -> str:
    """For people, to the minute: rounded up, too."""
    return datetime.fromtimestamp(math.ceil(at_ms / 60_000) * 60, tz=UTC).strftime("on %Y-%m-%d at %H:%M UTC")


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
