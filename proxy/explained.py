"""What an explanation says: the question, a line for each limit and rule on the path, and what comes of them together."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gateway_project.lib.money import exact_usd
from guardrails.headroom import Headroom
from guardrails.limits import Limit
from proxy import keycard
from proxy.callers import Caller
from proxy.errors import ProxyError
from proxy.routing import Plan

# `counts`: nothing is decided here, the call is only counted. `unjudged`: the call gets no plan, so there is nothing to judge.
Verdict = Literal["passes", "refuses", "clamps", "degrades", "counts", "unjudged"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it could be asked for. `input_tokens` as the gateway estimates them; `max_tokens` None: as the model says.

    `n`: how many answers it asks for. `reserve_tokens`: what it may read besides what it sends (canonical/request.py).
    """

    model: str
    input_tokens: int = 0
    max_tokens: int | None = None
    stream: bool = False
    address: str = ""
    feature: str = ""
    n: int = 1
    reserve_tokens: int = 0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One limit, one rule, or a node of the path that has neither. `text` says in words what it does to the call."""

    level: str
    node: str
    kind: str
    policy: str = ""
    window: str = ""
    used: Headroom | None = None
    entries: tuple[str, ...] = ()
    verdict: Verdict = "passes"
    code: str = ""
    text: str = ""
    decides: bool = False

    @property
    def limit(self) -> Limit | None:
        return None if self.used is None else self.used.limit

    @property
    def where(self) -> tuple[str, str]:
        return (self.level, self.node)


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What the proxy would answer, and every line that has a say in it, the most specific first.

    `refusal` is the error a caller would get. Where it has no plan (no such model, say), what it would hold is None.
    `max_tokens` is what the provider would be told; None: nothing, so the model's own maximum holds.
    """

    question: Question
    caller: Caller
    lines: tuple[Line, ...]
    refusal: ProxyError | None = None
    plan: Plan | None = None
    reserves_nano_usd: int | None = None
    max_tokens: int | None = None
    clamped: bool = False
    degraded: Limit | None = None

    @property
    def verdict(self) -> Verdict:
        if self.refusal is not None:
            return "refuses"
        return "degrades" if self.degraded is not None else "clamps" if self.clamped else "passes"

    @property
    def deciding(self) -> Line | None:
        return next((line for line in self.lines if line.decides), None)


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Amounts are dollars as text. What is not known because the call gets no plan is None."""
    question, plan, refusal = explanation.question, explanation.plan, explanation.refusal
    return {
        "object": "explanation",
        "verdict": explanation.verdict,
        "refusal": None if refusal is None else _refusal(refusal),
        "question": msgspec.to_builtins(question),
        "key": keycard.identity(explanation.caller.principal),
        "model": plan.model.name if plan is not None else None,
        "degraded_from": question.model if explanation.degraded is not None else None,
        "providers": [] if plan is None else [one.target.provider_name for one in plan.deployments],
        "reserves_usd": None if explanation.reserves_nano_usd is None else exact_usd(explanation.reserves_nano_usd),
        "reserves_tokens": None if plan is None else plan.tokens,
        "max_tokens": explanation.max_tokens,
        "clamped": explanation.clamped,
        "observed_hold": plan is not None and plan.observed,
        "lines": [_line(line) for line in explanation.lines],
    }


def _refusal(error: ProxyError) -> dict[str, Any]:
    detail = error.detail or {}
    return {"status": error.status, "code": error.code, "message": error.message, "ask": detail.get("ask")}


def _line(line: Line) -> dict[str, Any]:
    figures = {} if line.used is None else keycard.figures(line.used)
    return {
        "level": line.level,
        "node": line.node,
        "policy": line.policy or None,
        "kind": line.kind,
        "window": line.window or None,
        **figures,
        **({"entries": list(line.entries)} if line.entries and line.kind != "members" else {}),
        "verdict": line.verdict,
        "code": line.code or None,
        "text": line.text,
        "decides": line.decides,
    }
