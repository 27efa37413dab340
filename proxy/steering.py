"""From the name that a caller asked for to a model of the catalogue: presets, aliases, and what `auto` decides.

`rename` knows the organisation only, `decide` the catalogue too. Neither is kept from one round of admission to the next:
what was asked stays in `call.original`.
"""

from __future__ import annotations

import msgspec

from billing.pricing import Price
from proxy import complexity_of, permits, reach
from proxy.auto import LEANINGS, Candidate, Decision, Leaning, choose, few
from proxy.call import Call
from proxy.canonical.preset import Preset
from proxy.canonical.request import Request
from proxy.deployments import Catalogue, Model
from proxy.errors import ModelNotFound, ProxyError
from proxy.names import PRESET
from proxy.protocols import messages, presets, registry


def rename(call: Call) -> None:
    """Applies the preset or alias that was asked for. Raises ModelNotFound, BadRequest."""
    call.original = asked = call.original or call.asked
    call.request, call.preset, name = asked, "", asked.model
    if name[: len(PRESET)].lower() == PRESET:
        preset = _preset(call, name[len(PRESET) :])
        call.request, call.preset, name = _with(preset, asked), preset.name, preset.model
    call.target = call.caller.names.aliases.get(name.lower(), name)


def _preset(call: Call, name: str) -> Preset:
    found = call.caller.names.presets.get(name.lower())
    if found is None:
        raise ModelNotFound(f"There is no preset {name[:100]!r} in the groups of this key.", param="model")
    return found


def _with(preset: Preset, asked: Request) -> Request:
    if not asked.fields:  # a call that nobody makes: only its bounds are asked about
        return msgspec.structs.replace(asked, max_tokens=asked.max_tokens or preset.parameters.max_tokens)
    body = presets.applied(preset, asked.fields, protocol=asked.protocol)
    if asked.protocol == messages.NAME and asked.max_tokens is None:  # tokens are to be counted, not answered
        return messages.parse_count(body, asked.headers)
    return registry.CALLERS[asked.protocol].parse(body, asked.headers)


def decide(call: Call, catalogue: Catalogue) -> None:
    """Chooses a model where `auto` was asked for. Raises ModelNotFound where none can serve the call."""
    call.decision = None
    names = call.caller.names
    call.baseline = _price_of(catalogue.models.get(names.baseline)) if call.asked.kind == "chat" else None
    leaning = next((one for one in LEANINGS if one == call.target.lower()), None)
    if leaning is None or leaning in catalogue.models or call.asked.kind != "chat":
        return
    call.decision = _chosen(call, catalogue, leaning)


def _chosen(call: Call, catalogue: Catalogue, leaning: Leaning) -> Decision:
    named = [catalogue.models.get(name) or name for name in call.caller.names.candidates]
    if named:
        candidates = [_candidate(call, one) for one in named]
    else:
        candidates = few(_candidate(call, model) for model in catalogue.models.values() if model.kind == "chat")
    decision = choose(leaning, complexity_of.need(call.asked), candidates)
    if decision is None:
        reasons = "; ".join(f"{one.model}: {one.why_not}" for one in candidates) or "none is offered"
        raise ModelNotFound(f"No model that {leaning} may choose can serve this call ({reasons[:400]}).", param="model")
    return decision


def _candidate(call: Call, model: Model | str) -> Candidate:
    if isinstance(model, str):
        return Candidate(model, 0, "is not offered")
    price = _price_of(model)
    cost = 0 if price is None else reach.usual_cost(price, call.asked)
    return Candidate(model.name, cost, _why_not(call, model))


def _why_not(call: Call, model: Model) -> str:
    """Why a model cannot serve the call; empty where it can."""
    if not permits.permits(call.caller, model):
        return "not allowed to this key"
    missing = call.asked.needs - frozenset(model.capabilities) if model.capabilities else frozenset()
    if missing:
        return f"has no {', '.join(sorted(missing)).replace('_', ' ')}"
    needed = call.asked.input_tokens_estimate + (call.asked.max_tokens or 0)
    if model.context_window is not None and needed > model.context_window:
        return "its context window is too small"
    try:
        deployments = permits.allowed_deployments(call, model)
    except ProxyError:
        return "not allowed to this key"
    usable = [one for one in deployments if one.price is not None and one.provider.serves(call.asked.protocol)]
    return "" if usable else "no provider of it can take the call"


def _price_of(model: Model | None) -> Price | None:
    if model is None:
        return None
    return next((one.price for one in model.deployments if one.price is not None), None)
