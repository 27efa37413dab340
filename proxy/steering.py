"""From the name that a caller asked for to a model of the catalogue: presets, aliases, and what `auto` decides.

`rename` knows the organisation only, `decide` the catalogue too. Neither is kept from one round of admission to the next:
what was asked stays in `call.original`.
"""

from __future__ import annotations

import msgspec

from proxy import capabilities, complexity_of, permits, reach
from proxy.auto import LEANINGS, NOT_ALLOWED, Candidate, Decision, Leaning, choose, few
from proxy.call import Call
from proxy.canonical.preset import Preset
from proxy.canonical.request import Request
from proxy.deployments import Catalogue, Deployment, Model
from proxy.errors import TOO_LONG, BadRequest, ModelNotFound, ProxyError
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
    """Chooses a model where `auto` was asked for. Raises BadRequest, ModelNotFound where none can serve the call."""
    call.decision = None
    names = call.caller.names
    baseline = _priced(catalogue.models.get(names.baseline)) if call.asked.kind == "chat" else None
    call.baseline = None if baseline is None else baseline.price
    leaning = next((one for one in LEANINGS if one == call.target.lower()), None)
    if leaning is None or leaning in catalogue.models or call.asked.kind != "chat":
        return
    call.decision = _chosen(call, catalogue, leaning)


def _chosen(call: Call, catalogue: Catalogue, leaning: Leaning) -> Decision:
    named, needs = call.caller.names.candidates, call.asked.needs
    among = [catalogue.models.get(name) or name for name in named] if named else _chat_models(catalogue)
    candidates = [_candidate(call, one, needs) for one in among]
    decision = choose(leaning, complexity_of.need(call.asked), candidates if named else few(candidates))
    if decision is None:
        asks_too_much = _asks_too_much(call, leaning, [one for one in among if isinstance(one, Model)])
        reasons = _reasons(candidates if named else []) or "none is offered"
        raise asks_too_much or ModelNotFound(
            f"No model that {leaning} may choose can serve this call ({reasons[:400]}).", param="model"
        )
    return decision


def _reasons(candidates: list[Candidate]) -> str:
    """Why none of them can serve the call; those that the key may not use are counted, not named."""
    told = [f"{one.model}: {one.why_not}" for one in candidates if one.why_not != NOT_ALLOWED]
    if hidden := len(candidates) - len(told):
        told.append(f"{hidden} {'is' if hidden == 1 else 'are'} {NOT_ALLOWED}")
    return "; ".join(told)


def _chat_models(catalogue: Catalogue) -> list[Model | str]:
    return [model for model in catalogue.models.values() if model.kind == "chat"]


def _asks_too_much(call: Call, leaning: Leaning, models: list[Model]) -> BadRequest | None:
    """Of every model that is open to the call. None where none is: then the request is not what is wrong."""
    needs = call.asked.needs
    open_to_it = [model for model in models if not _closed(call, model)]
    if not open_to_it:
        return None
    lacking = [frozenset(capabilities.missing(needs, model.capabilities)) for model in open_to_it]
    if by_all := frozenset.intersection(*lacking):
        wanted = capabilities.in_words(capabilities.in_order(by_all))
        return BadRequest(f"This request needs {wanted}, which no model that {leaning} may choose has.", param="model")
    reasons = "; ".join(f"{model.name}: {_unfit(call, model, needs)}" for model in open_to_it)
    return BadRequest(
        f"No model that {leaning} may choose can take this request ({reasons[:400]}).",
        param="model",
        code=None if any(lacking) else TOO_LONG,
    )


def _candidate(call: Call, model: Model | str, needs: frozenset[str]) -> Candidate:
    if isinstance(model, str):
        blocked = call.caller.limits.rules.against_model(model) is not None
        return Candidate(model, 0, NOT_ALLOWED if blocked else "is not offered")
    priced = _priced(model)
    cost = None if priced is None else reach.usual_cost(priced, call.asked)
    return Candidate(model.name, cost or 0, _closed(call, model) or _unfit(call, model, needs))


def _unfit(call: Call, model: Model, needs: frozenset[str]) -> str:
    """What the model lacks for the request; empty where it lacks nothing."""
    missing = capabilities.missing(needs, model.capabilities)
    if missing:
        return f"has no {capabilities.in_words(missing)}"
    needed = call.asked.input_tokens_estimate + (call.asked.max_tokens or 0)
    if model.context_window is not None and needed > model.context_window:
        return "its context window is too small"
    return ""


def _closed(call: Call, model: Model) -> str:
    """Why the call may not or cannot go there, whatever it asks; empty where it can."""
    if not permits.permits(call.caller, model):
        return NOT_ALLOWED
    try:
        deployments = permits.allowed_deployments(call, model)
    except ProxyError:
        return NOT_ALLOWED
    usable = [one for one in deployments if one.price is not None and one.provider.serves(call.asked.protocol)]
    return "" if usable else "no provider of it can take the call"


def _priced(model: Model | None) -> Deployment | None:
    """The first of its deployments that has a price."""
    return None if model is None else next((one for one in model.deployments if one.price is not None), None)
