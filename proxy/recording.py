"""A call's state → its ledger row. Who pays for what is decided here, and nowhere else.

| how the call ended | charged |
|---|---|
| complete answer | what the provider reports; an estimate, marked, only if it reports nothing |
| any answer longer than the provider was told | as if it were not: what is beyond is absorbed |
| the provider shortened the conversation, drew, searched, or fetched | that as well, as far as what was held covers it |
| refused, bad request, no provider answered | nothing |
| provider failed after it was chosen, before or after the first byte | nothing; what it cost goes to *absorbed* |
| caller hung up during a stream | input and what was delivered |
| the model failed to call a tool, after words that were relayed | the same as cut by the gateway: its tools are the caller's |
| caller hung up before a whole answer | nothing |
| cut by the gateway (key revoked, hold used up, gateway stopped) | input and what was delivered, at most what was held |
| the same before the first byte of an answer | nothing |
| no output and no finish reason | nothing |
| on an own provider key | nothing; what is said above to be charged is its list cost, which budgets may count |
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from billing.ledger import Row
from billing.pricing import INPUT_KINDS, OUTPUT_KINDS, Bill, Price, bill, cache_saving
from proxy import routing
from proxy.auto import Decision
from proxy.call import Call
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest, GatewayStopping, GuardrailsUnavailable, HoldUsedUp, ProxyError
from proxy.routing import Plan

MAX_NAME = 200
# Of the places where a call could go.
MOST_TOLD = 8


def completed(call: Call, usage: Usage | None, *, text_length: int, finish_reason: str, has_output: bool) -> Row:
    """A complete answer. Without output and finish reason it is recorded, and free."""
    used = usage or estimated_usage(call, text_length)
    row = _row(call, status="ok", http_status=200, finish_reason=finish_reason)
    _bill(call, row, used, charged=has_output or bool(finish_reason))
    return row


def hung_up(call: Call, usage: Usage | None, *, text_length: int) -> Row:
    """The caller left a stream: input and what was delivered."""
    row = _row(call, status="cancelled", http_status=499)
    _bill(call, row, usage or estimated_usage(call, text_length), charged=True)
    return row


def cancelled(call: Call) -> Row:
    """The caller left before there was an answer, and the provider was cancelled: nothing is charged."""
    return _row(call, status="cancelled", http_status=499)


def cut(call: Call, usage: Usage | None, *, text_length: int, error: ProxyError) -> Row:
    """The gateway ended a stream, or the model failed to call a tool after words that were relayed: input and what was
    delivered, never more than was reserved for it."""
    row = _row(call, status="cut", http_status=error.status, error_code=type(error).code)
    if isinstance(error, HoldUsedUp):
        row.finish_reason = "length"
    _bill(call, row, usage or estimated_usage(call, text_length), charged=True)
    if call.held is not None and not call.unguarded:
        _bound(row, call.held.amount_nano_usd)
    return row


def failed(call: Call, usage: Usage | None = None, *, text_length: int = 0, error: ProxyError) -> Row:
    """No complete answer: nothing is charged, and what a provider delivered before it failed is absorbed.

    Cut by the end of this process before there was an answer: the same, nobody was given anything.
    """
    row = _row(call, status=_status(type(error)), http_status=error.status, error_code=type(error).code)
    if text_length or usage is not None:
        _bill(call, row, usage or estimated_usage(call, text_length), charged=False)
        row.absorbed_nano_usd, row.list_nano_usd = row.list_nano_usd, 0
    return row


def withhold(row: Row, *, error: type[ProxyError] = GuardrailsUnavailable) -> None:
    """The answer of this row, not written yet, could not be given out: nothing is charged, the cost is absorbed.

    `error`: what its caller is told instead. A row that says already why there was no whole answer keeps that.
    """
    if row.status == "ok" or row.error_code == HoldUsedUp.code or (row.counts and not row.error_code):
        row.status, row.http_status, row.error_code = _status(error), error.status, error.code
    absorbed = 0 if row.byok else max(row.list_nano_usd, row.absorbed_nano_usd)
    row.absorbed_nano_usd, row.charged_nano_usd, row.list_nano_usd = absorbed, 0, 0
    # Nor was anything saved with it: a row that keeps its status would else count as all that the baseline costs.
    row.baseline_nano_usd, row.cache_saving_nano_usd = None, 0


def _status(error: type[ProxyError]) -> str:
    """Of a call that ended with it, and without an answer."""
    return "cut" if issubclass(error, GatewayStopping) else "failed"


def refused(call: Call, error: ProxyError) -> Row:
    row = _row(call, status="refused", http_status=error.status, error_code=type(error).code)
    row.decision = dict(error.detail or {}) | _invalid(error) | _judged(call)
    return row


def _invalid(error: ProxyError) -> dict[str, Any]:
    """Where a request is wrong, or why its body cannot be read; never what stands there: content is not kept."""
    if type(error) is not BadRequest:
        return {}
    return {"invalid": {"member": storable(error.param)} if error.param else {"body": storable(error.message)}}


def _judged(call: Call) -> dict[str, Any]:
    """How large the call was that was refused, so that the same one can be judged again (`/explain/`): as its caller wrote it."""
    asked = call.original or call.request
    if asked is None:
        return {}
    judged = {
        "input_tokens": asked.input_tokens_estimate,
        "reserve_tokens": asked.reserve_tokens or None,
        "max_tokens": asked.max_tokens,
        "n": asked.n,
    }
    return {"call": {name: value for name, value in judged.items() if value is not None}}


def _with_units(call: Call, usage: Usage) -> Usage:
    """Units that the provider does not report are those that were asked for, or that its model always takes."""
    asked = _asked(call).units if call.request is not None else {}
    return msgspec.structs.replace(usage, units={**asked, **usage.units}) if asked else usage


def _asked(call: Call) -> Request:
    """Of the deployment that served it."""
    return routing.asked_of(call.served_by, call.asked) if call.served_by is not None else call.asked


def _with_lifetime(call: Call, usage: Usage) -> Usage:
    """Where a provider counts what it wrote to its cache without saying for how long, what it was told decides the price."""
    if not call.caches_for_an_hour or not usage.cache_write_5m or usage.cache_write_1h:
        return usage
    return msgspec.structs.replace(usage, cache_write_5m=0, cache_write_1h=usage.cache_write_5m)


def estimated_usage(call: Call, text_length: int) -> Usage:
    """Where the provider reports nothing: four characters a token, and of the input's upper bound what ordinary text has
    of it (the README's table of the estimate's error: bounds are 1.5 to 1.7 times the actual count).

    That is never more than the provider was told to write: what was reserved for is not passed by a guess. Unless it did
    not listen.
    """
    if call.request is not None and call.request.usual is not None:
        return call.request.usual
    bound = call.request.input_tokens_estimate if call.request is not None else 0
    output = -(-text_length // 4)
    if call.plan is not None and not isinstance(call.cut, HoldUsedUp):
        output = min(output, call.most_output)
    return Usage(input_uncached=bound * 3 // 5, output=output, estimated=True)


def context(call: Call) -> dict[str, Any]:
    """What the resolver of a dead worker's hold needs for a row in this call's place (compact: it is kept in Redis)."""
    principal = call.principal
    facts = {
        "organization_id": principal.organization_id,
        "member_id": principal.member_id,
        "api_key_id": principal.key_id,
        "application_id": principal.application_id,
        "feature": call.feature,
        "environment": principal.environment,
        "protocol": call.protocol,
        "requested_model": storable(call.request.model) if call.request is not None else "",
    }
    levels = {f"group{node.level}_id": node.id for node in principal.path}
    return {name: value for name, value in facts.items() if value not in (None, "")} | levels


def _row(call: Call, *, status: str, http_status: int, error_code: str = "", finish_reason: str = "") -> Row:
    principal, request, served = call.principal, call.request, call.served_by
    levels = {f"group{node.level}_id": node.id for node in principal.path}
    return Row(
        call_id=call.id,
        admitted_at=call.began_at,
        recorded_at=_not_before(call),
        organization_id=principal.organization_id,
        group0_id=levels["group0_id"],
        group1_id=levels.get("group1_id"),
        group2_id=levels.get("group2_id"),
        group3_id=levels.get("group3_id"),
        group4_id=levels.get("group4_id"),
        member_id=principal.member_id,
        api_key_id=principal.key_id,
        application_id=principal.application_id,
        feature=call.feature,
        environment=principal.environment,
        protocol=call.protocol,
        streamed=request.stream if request is not None else False,
        requested_model=storable(request.model) if request is not None else "",
        served_model=served.target.model if served is not None else "",
        provider=served.target.provider_name if served is not None else "",
        deployment_id=served.id if served is not None else None,
        byok=served is not None and served.own_key_id is not None,
        route_reason=call.route_reason if call.plan is not None else "",
        preset=call.preset,
        reserved_nano_usd=call.held.amount_nano_usd if call.held is not None else 0,
        latency_ms=call.elapsed_ms(),
        first_token_ms=call.first_token_ms(),
        status=status,
        http_status=http_status,
        error_code=error_code,
        finish_reason=storable(finish_reason)[:40],
        attempt_count=call.tries,
        decision=_decision(call),
    )


def _not_before(call: Call) -> datetime | None:
    """When Redis, which says which windows are judged, admitted it."""
    if call.held is None or call.unguarded:
        return None
    return datetime.fromtimestamp(call.held.admitted_ms / 1000, tz=UTC)


def _bill(call: Call, row: Row, usage: Usage, *, charged: bool) -> None:
    usage = _with_units(call, _with_lifetime(call, usage))
    row.units = usage.units
    row.input_tokens = usage.input_uncached + usage.audio_input + usage.image_input
    row.cache_read_tokens, row.cache_write_5m_tokens = usage.cache_read, usage.cache_write_5m
    row.cache_write_1h_tokens = usage.cache_write_1h
    row.output_tokens, row.reasoning_tokens = usage.output_total, usage.reasoning
    row.usage_estimated = usage.estimated
    price = call.served_by.price if call.served_by is not None else None
    if price is None:
        return
    cost: Bill = bill(price, usage)
    # Units are counted, and what costs nothing need not be known.
    row.usage_estimated = usage.estimated and any(map(cost.parts.get, (*INPUT_KINDS, *OUTPUT_KINDS)))
    row.price_version_id, row.unit_prices, row.cost_parts = price.version_id, cost.unit_prices, cost.parts
    row.list_nano_usd = cost.total
    if charged:
        row.cache_saving_nano_usd = cache_saving(price, usage, cost)
        row.baseline_nano_usd = None if call.baseline is None else bill(call.baseline, usage).total
    owed = _owed(call, price, usage, cost) if charged else 0
    if row.byok:
        # Its provider is paid by the organisation itself: what is not counted is absorbed by nobody.
        row.list_nano_usd = owed
    elif charged:
        row.charged_nano_usd = owed
        row.absorbed_nano_usd = row.list_nano_usd - row.charged_nano_usd


def _bound(row: Row, most: int) -> None:
    if row.byok:
        row.list_nano_usd = min(row.list_nano_usd, most)
    else:
        row.charged_nano_usd = min(row.charged_nano_usd, most)
        row.absorbed_nano_usd = row.list_nano_usd - row.charged_nano_usd


def _owed(call: Call, price: Price, usage: Usage, cost: Bill) -> int:
    reserved = _as_reserved(call, usage)
    owed = cost.total if reserved is usage else bill(price, reserved).total
    if call.held is None or call.unguarded:
        return owed
    # What tools of the provider find, how long a document behind an address or a summary is, or how many pictures are drawn,
    # nobody bounds: that makes no call dearer than what it holds.
    if _has_read_unseen(call, usage):
        return min(owed, call.held.amount_nano_usd)
    if not usage.beside:
        return owed
    alone = bill(price, msgspec.structs.replace(reserved, beside=())).total
    return max(alone, min(owed, call.held.amount_nano_usd))


def _has_read_unseen(call: Call, usage: Usage) -> bool:
    """More than was held for, of what only the provider could see."""
    asked = _asked(call)
    return usage.input_total > asked.most_input and (asked.reserve_tokens > 0 or "web_search" in usage.units)


def _as_reserved(call: Call, usage: Usage) -> Usage:
    """A provider that writes more than it was told has not been reserved for: what is beyond is not the caller's to pay."""
    if call.plan is None:
        return usage
    beyond = max(0, usage.output_total - call.most_output)
    asked = _asked(call).most_units
    if not beyond and all(count <= asked.get(unit, 0) for unit, count in usage.units.items()):
        return usage
    kept = {}
    for kind in ("output", "audio_output", "image_output"):
        written = getattr(usage, kind)
        kept[kind] = max(0, written - beyond)
        beyond -= written - kept[kind]
    units = {unit: min(count, asked.get(unit, 0)) for unit, count in usage.units.items()}
    return msgspec.structs.replace(usage, units=units, **kept)


def _decision(call: Call) -> dict[str, Any]:
    """What the guardrails decided, for the call's page: the tightest budget, and what they changed of the call;
    and what the provider was not told of it, by name."""
    held, plan = call.held, call.plan
    if held is None or plan is None:
        return {}
    decision: dict[str, Any] = {}
    if held.tightest is not None:
        tightest = held.tightest
        decision = {
            "level": tightest.level,
            "node": tightest.node,
            "policy": tightest.policy,
            "window": tightest.window,
            "limit": tightest.shown_value,
            "left": held.left_nano_usd,
        }
    if held.clamped:
        decision["clamped_from"], decision["clamped_to"] = plan.output_cap, call.max_tokens
    elif plan.observed:
        decision["observed_cap"] = plan.output_cap
    if call.degraded is not None:
        near = call.degraded
        decision["degraded"] = {
            "from": storable(call.asked.model),
            "to": near.degrade_model,
            "level": near.level,
            "node": near.node,
            "policy": near.policy,
            "window": near.window,
            "limit": near.shown_value,
        }
    if len(plan.deployments) > 1:
        decision["order"] = _order(plan)
    if call.decision is not None:
        decision["auto"] = _auto(call.decision)
    if call.ignored:
        decision["ignored"] = list(call.ignored)
    return decision | ({"unguarded": True} if held.unguarded else {})


def _auto(decision: Decision) -> dict[str, Any]:
    """What `auto` decided, and why not for the others."""
    others = [[model, why] for model, why in decision.alternatives[:MOST_TOLD]]
    return {"asked": decision.leaning, "need": decision.need, "model": decision.model, "others": others}


def _order(plan: Plan) -> list[list[str]]:
    """Where the call could go, first to last: provider, the name of the model there, why it stands there."""
    targets = [deployment.target for deployment in plan.deployments[:MOST_TOLD]]
    return [[target.provider_name, target.model, reason] for target, reason in zip(targets, plan.reasons, strict=False)]


def storable(text: str) -> str:
    """What PostgreSQL takes as text of a name that a caller or provider made up."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")[:MAX_NAME]
