"""The headers of successful answers: whose call it was, what it cost, which route it took, what is left."""

from __future__ import annotations

from urllib.parse import quote

from gateway_project.lib import ids
from gateway_project.lib.money import exact_usd
from proxy.call import Call
from proxy.protocols import messages
from proxy.route_header import route_of

# Proxies in between must neither buffer nor store a stream.
EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}

# What stays as it is: all that can be printed but the percent sign.
PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

# The same figures under the names that callers of Messages look for.
ANTHROPIC_RATES = {
    "x-ratelimit-limit-requests": "anthropic-ratelimit-requests-limit",
    "x-ratelimit-remaining-requests": "anthropic-ratelimit-requests-remaining",
    "x-ratelimit-limit-tokens": "anthropic-ratelimit-tokens-limit",
    "x-ratelimit-remaining-tokens": "anthropic-ratelimit-tokens-remaining",
}


def of_whole(call: Call, *, charged: int, own: int | None = None, content_type: str) -> dict[str, str]:
    """`own`: what the call cost by the list, where it went to an own provider key."""
    listed = {} if own is None else {"x-gatehouse-own-key-cost-usd": exact_usd(own)}
    left = _left(call, charged=charged, own=own or 0)
    return {**_common(call), "x-gatehouse-cost-usd": exact_usd(charged), **listed, **left, "content-type": content_type}


def of_stream(call: Call) -> dict[str, str]:
    """A stream's cost is not known yet, nor what it leaves: it stands in the ledger under the request id."""
    return {**_common(call), **EVENT_STREAM}


def of_a_question() -> dict[str, str]:
    """Of answers that are no calls: models, limits."""
    request_id = str(ids.new_call_id())
    return {"x-request-id": request_id, "request-id": request_id, "content-type": "application/json"}


def _common(call: Call) -> dict[str, str]:
    request_id = str(call.id)
    result = {
        "x-request-id": request_id,
        "request-id": request_id,
        "x-gatehouse-model": _ascii(call.served_model),
        "x-gatehouse-route": route_of(call),
    }
    held = call.held
    if held is not None and held.tightest is not None:
        result["x-gatehouse-budget"] = _ascii(f"{held.tightest.level} {held.tightest.node} {held.tightest.window}")
    if held is not None and held.rate is not None:
        result["x-ratelimit-limit-requests"] = str(held.rate.value)
        result["x-ratelimit-remaining-requests"] = str(held.rate_left)
    if held is not None and held.token_rate is not None:
        result["x-ratelimit-limit-tokens"] = str(held.token_rate.value)
        result["x-ratelimit-remaining-tokens"] = str(max(0, held.tokens_left))
    if call.protocol == messages.NAME:
        result |= {there: result[here] for here, there in ANTHROPIC_RATES.items() if here in result}
    return result | _changes(call)


def _left(call: Call, *, charged: int, own: int) -> dict[str, str]:
    """Of the tightest budget, once this call is charged: admission took its worst case off, which its cost takes the place of."""
    held = call.held
    if held is None or held.tightest is None:
        return {}
    counts_own = held.tightest.counts_byok
    # As lua/amounts.lua counts: what can only be spent on own keys is held by nobody who does not count these.
    was_held = held.amount_nano_usd if counts_own or not call.planned.own_only else 0
    left = held.left_nano_usd + was_held - charged - (own if counts_own else 0)
    return {"x-gatehouse-budget-left-usd": exact_usd(max(0, left))}


def _changes(call: Call) -> dict[str, str]:
    """What the guardrails changed of the call, and what translation left out."""
    result = {}
    if call.clamped or call.planned.observed:
        result["x-gatehouse-max-tokens"] = str(call.max_tokens)
    if call.planned.observed and not call.clamped:
        result["x-gatehouse-hold"] = "observed"
    if call.degraded is not None:
        result["x-gatehouse-degraded-from"] = _ascii(call.asked.model)
    if call.unguarded:
        result["x-gatehouse-guardrails"] = "unchecked"
    if call.ignored:
        result["x-gatehouse-ignored"] = ", ".join(call.ignored)
    return result


def _ascii(text: str) -> str:
    """Header values are ASCII without line ends (RFC 9110, 5.5), names of nodes and models may be anything: what else they hold
    is percent-encoded UTF-8, and so is the percent sign, so that they read back."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text
    return quote(text, safe=PLAIN, errors="replace")
