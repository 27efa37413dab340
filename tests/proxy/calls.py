"""Calls at any stage of their life: pure ones built by hand, and admitted ones of a house."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from billing.pricing import Price, Rates
from guardrails.admission import Admitted
from guardrails.limits import Limit, Limits
from guardrails.rules import Rules
from orgs.access import Node, Principal
from proxy import callers, pipeline
from proxy.attempts import Opened
from proxy.call import Call
from proxy.callers import Caller
from proxy.deployments import Deployment, Model
from proxy.protocols import chat_completions
from proxy.protocols.chat_replies import StreamReader
from proxy.providers import registry
from proxy.providers.base import Target, Timeouts
from proxy.routing import Plan

if TYPE_CHECKING:
    from tests.house import House

Part = bytes | float | Exception


def body(**members: Any) -> bytes:
    messages = [{"role": "user", "content": "Tell me about the gate."}]
    return json.dumps({"model": "scripted", "messages": messages, **members}).encode()


# --- pure --------------------------------------------------------------------------------------
def principal(**fields: Any) -> Principal:
    given: dict[str, Any] = {
        "organization_id": 1,
        "organization_name": "Acme",
        "time_zone": "UTC",
        "attribution_required": False,
        "path": (Node(1, 0, "Acme"), Node(2, 1, "Engineering")),
        "member_id": 3,
        "member_name": "Mia",
        "key_id": 4,
        "key_name": "Mia's key",
        "application_id": None,
        "application_name": "",
        "environment": "",
        "features": (),
        "expires_at": None,
        **fields,
    }
    return Principal(**given)


def deployment(*, provider: str = "scripted", rates: Rates | None = None, **fields: Any) -> Deployment:
    kind = registry.provider("openai-compatible")
    target = Target(1, fields.pop("id", 1), provider, kind.kind, "http://x/v1", fields.pop("model", "m"), timeouts=Timeouts())
    price = Price(version_id=1, sku="model:m", rates=rates or Rates(input=10**9, output=4 * 10**9))
    order, weight = fields.pop("order", 1), fields.pop("weight", 1)
    # Without a circuit breaker: other tests know deployments by the same numbers.
    given: dict[str, Any] = {"model": fields.pop("offered", "m"), "circuit_breaker": False, **fields}
    return Deployment(target.deployment_id, kind, target, price, order, weight, **given)


def model(*deployments: Deployment, name: str = "m", **fields: Any) -> Model:
    sizes = fields.get("context_window", 128_000), fields.get("max_output_tokens", 4096)
    return Model(name, "chat", *sizes, datetime.now(UTC), deployments or (deployment(),))


def plan(*deployments: Deployment, **fields: Any) -> Plan:
    found = model(*deployments)
    given: dict[str, Any] = {
        "reasons": ("only",) * len(found.deployments), "output_cap": 4096, "max_tokens": None, "worst_case": 1_000,
        "least": None, "tokens": 100,
    }  # fmt: skip
    return Plan(found, found.deployments, **{**given, **fields})


def limit(**fields: Any) -> Limit:
    given: dict[str, Any] = {
        "id": 0, "kind": "budget", "window": "month", "value": 10**9, "subject": 0, "level": "key", "node": "Mia's key",
        "policy": "L",
    }  # fmt: skip
    return Limit(**{**given, **fields})


def held(**fields: Any) -> Admitted:
    given: dict[str, Any] = {
        "call_id": Call("chat_completions", caller()).id, "limits": limits(), "amount_nano_usd": 1_000, "admitted_ms": 0,
        "clamped": False,
    }  # fmt: skip
    return Admitted(**{**given, **fields})


def limits(*of: Limit, rules: Rules | None = None) -> Limits:
    return Limits(1, "generation", ("k4", "m3", "g2", "org", "pool"), of, rules or Rules())


def caller(*of: Limit, rules: Rules | None = None, **fields: Any) -> Caller:
    return Caller("gh_sk_x", "1", principal(**fields), limits(*of, rules=rules))


def planned_call(*deployments: Deployment, **fields: Any) -> Call:
    """As it stands before its first attempt."""
    call = Call("chat_completions", caller())
    call.request = chat_completions.parse(body(**fields))
    call.plan = plan(*deployments)
    return call


# --- of a house --------------------------------------------------------------------------------
async def admitted(house: House, **members: Any) -> Call:
    """A call of mia's key with its hold, which the first deployment is about to serve."""
    call = Call("chat_completions", await callers.load(house.key_text))
    call.request = chat_completions.parse(body(**members))
    await pipeline.admit(call)
    call.served_by = call.planned.deployments[0]
    return call


def bounded(call: Call, *, total: float) -> Call:
    """`total`: seconds that the whole call may take."""
    first, *rest = call.planned.deployments
    timeouts = msgspec.structs.replace(first.target.timeouts, total=total)
    first = msgspec.structs.replace(first, target=msgspec.structs.replace(first.target, timeouts=timeouts))
    call.plan = msgspec.structs.replace(call.planned, deployments=(first, *rest))
    return call


class ScriptedUpstream:
    """An open answer that says its parts in order: bytes, seconds of silence, or the error it ends with."""

    status = 200

    def __init__(self, *parts: Part) -> None:
        self.headers: dict[str, str] = {}
        self.closed = 0
        self._parts = parts

    async def body(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                yield part

    async def close(self) -> None:
        self.closed += 1


def opened(*parts: Part, n: int = 1, wants_usage: bool = False, first: bytes = b"") -> Opened:
    """A stream whose first frames are those in `first`; the `parts` are still to come."""
    upstream = ScriptedUpstream(*parts)
    reader = StreamReader(n=n, wants_usage=wants_usage)
    return Opened(upstream, upstream.chunks(), reader, reader.feed(first) if first else [])
