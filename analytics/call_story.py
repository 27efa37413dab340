"""One call as its page tells it: what happened in which order, and how its cost came about, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from billing.models import CallAttempt, UsageRecord
from gateway_project.lib import formatting
from gateway_project.lib.money import cost_of, exact_usd
from orgs.models import Group

# Part of a bill → the column that counts its tokens, and what people call it.
KINDS = {
    "input": ("input_tokens", "Input"),
    "cache_read": ("cache_read_tokens", "Cache read"),
    "cache_write_5m": ("cache_write_5m_tokens", "Cache write, 5 min"),
    "cache_write_1h": ("cache_write_1h_tokens", "Cache write, 1 h"),
    "output": ("output_tokens", "Output"),
}
ROUTES = {"only": "the only deployment of this model", "order": "first in the order of its deployments"}
WINDOWS = {"day": "today", "month": "this month", "total": "in total", "minute": "in the last minute"}


class Step(NamedTuple):
    """One entry of the timeline; `tone` is ok, warn, bad or muted."""

    title: str
    text: str
    tone: str = "muted"
    when: str = ""


class Part(NamedTuple):
    """One line of the bill. `tokens` is None where the row does not count them apart (audio, images) or it is a flat fee."""

    kind: str
    tokens: int | None
    unit_nano_usd: int | None
    cost_nano_usd: int


class Story(NamedTuple):
    """`total` is the sum of `parts`, as recorded."""

    steps: list[Step]
    parts: list[Part]
    total: int
    path: str


def story_of(call: UsageRecord, *, attempts: Sequence[CallAttempt], path: Sequence[Group]) -> Story:
    steps = [Step("Received", _asked(call), "ok"), *_decision(call)]
    if call.route_reason and call.provider:
        steps.append(Step("Routed", f"{call.provider}: {ROUTES.get(call.route_reason, call.route_reason)}", "ok"))
    steps += [_attempt(attempt) for attempt in attempts]
    if call.first_token_ms is not None:
        steps.append(Step("First token", "", "ok", f"after {formatting.duration(call.first_token_ms)}"))
    steps.append(_ended(call))
    parts = _bill(call)
    return Story(steps, parts, sum(part.cost_nano_usd for part in parts), " / ".join(group.name for group in path))


def _asked(call: UsageRecord) -> str:
    how = "streamed" if call.streamed else "in one piece"
    return f"{call.requested_model or 'no model'} by {call.protocol.replace('_', ' ')}, {how}"


def _decision(call: UsageRecord) -> list[Step]:
    decision: dict[str, Any] = call.decision
    if call.status == UsageRecord.Status.REFUSED:
        return [Step(f"Refused: {call.error_code.replace('_', ' ')}", _limit(decision), "bad")]
    if not decision:
        return []
    steps = [Step("Admitted", _limit(decision), "ok")]
    if "clamped_to" in decision:
        words = f"The budget affords {decision['clamped_to']:,} output tokens: the answer was bounded by that."
        steps.append(Step("Shortened", words, "warn"))
    return steps


def _limit(decision: dict[str, Any]) -> str:
    """Budgets of admitted calls are nano-dollars, of refused ones dollars as text; rates are counts."""
    if "limit" not in decision:
        return ""
    rate = decision.get("window") == "minute"
    figure = {name: _figure(decision[name], rate) for name in ("limit", "left", "spent", "held") if name in decision}
    window = WINDOWS.get(str(decision.get("window")), "")
    where = f"{decision.get('level')} {decision.get('node')}"
    if "left" in figure:
        return f"Tightest limit: {figure['limit']} on the {where}, {figure['left']} left {window} after this call's hold."
    return f"The {where} has used {figure.get('spent')}, with {figure.get('held')} held, of {figure['limit']} {window}."


def _figure(value: object, rate: bool) -> str:
    if isinstance(value, int):
        return f"{value:,} requests" if rate else _dollars(exact_usd(value))
    return _dollars(str(value))


def _dollars(exact: str) -> str:
    """Every digit, with thousands set apart: a refusal is often a matter of the last ones."""
    whole, point, decimals = exact.partition(".")
    return f"${int(whole):,}{point}{decimals}" if whole.isdigit() else f"${exact}"


def _attempt(attempt: CallAttempt) -> Step:
    answer = f"answered {attempt.http_status}" if attempt.http_status else attempt.status
    words = f"{answer}, {attempt.error}" if attempt.error else answer
    tone = "ok" if attempt.status == "ok" else "bad"
    return Step(f"{attempt.provider} / {attempt.model}", words, tone, formatting.duration(attempt.latency_ms))


def _ended(call: UsageRecord) -> Step:
    tone = {"ok": "ok", "cancelled": "warn", "cut": "warn"}.get(call.status, "bad")
    why = call.finish_reason and f"finish reason {call.finish_reason}"
    words = ", ".join(part for part in (f"HTTP {call.http_status}", call.error_code.replace("_", " "), why) if part)
    when = f"after {formatting.duration(call.latency_ms)}" if call.latency_ms is not None else ""
    return Step(call.get_status_display(), words, tone, when)


def _bill(call: UsageRecord) -> list[Part]:
    parts = []
    for kind, cost in call.cost_parts.items():
        column, label = KINDS.get(kind, ("", kind.replace("_", " ").capitalize()))
        tokens, unit = getattr(call, column) if column else None, call.unit_prices.get(kind)
        # Audio and images are counted among the input: then this column is not what the part was made of.
        if tokens is None or unit is None or cost_of(tokens, unit) != cost:
            tokens = None
        parts.append(Part(label, tokens, unit if kind != "request" else None, cost))
    return parts
