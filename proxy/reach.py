"""Everywhere a call may go: the deployments of its model, then those of the models that it falls back to.

Every rule that holds for the model asked for holds for each of the others. What may not or cannot take the call is left out
there; only the model asked for refuses it.
"""

from __future__ import annotations

import sys

import msgspec

from billing import pricing
from proxy import cache_writes, capabilities, choosing, own_keys, permits, routing, sessions
from proxy.call import Call
from proxy.canonical.request import Request
from proxy.choosing import Choice, Lots, Stage
from proxy.deployments import Catalogue, Deployment, Model
from proxy.errors import BadRequest
from proxy.health import board


def choices(call: Call, model: Model, catalogue: Catalogue) -> tuple[Choice, ...]:
    """In the order in which they are tried. Raises PermissionRefused, BadRequest where the model has none for this call."""
    own = routing.reachable(model, call.asked, permits.allowed_deployments(call, model))
    stages = [Stage(own, model.strategy)]
    if model.fallbacks:
        stages += _fallbacks(call, model, catalogue)
    if call.caller.own_keys:
        stages = _on_own_keys(call, stages)
    if call.asked.resolution:
        stages = [_at_resolution(stage, call.asked.resolution) for stage in stages]
    if len(stages) == len(stages[0].deployments) == 1:
        return (Choice(stages[0].deployments[0], "only"),)
    session = sessions.session_of(call.asked, key_id=call.principal.key_id, named=call.session_asked)
    return choosing.choose(
        stages, known=board.current(), cost=lambda deployment: _cost(deployment, call.asked), lots=Lots(session)
    )


def _fallbacks(call: Call, model: Model, catalogue: Catalogue) -> list[Stage]:
    found = []
    for name in model.fallbacks:
        other = catalogue.models.get(name)
        if other is not None and _can_serve(other, call.asked, kind=model.kind) and permits.permits(call.caller, other):
            usable = permits.usable_deployments(call, other)
            deployments = tuple(one for one in usable if one.price is not None and one.provider.serves(call.asked.protocol))
            if deployments:
                found.append(Stage(deployments, other.strategy))
    return found


def _on_own_keys(call: Call, stages: list[Stage]) -> list[Stage]:
    """Raises ProviderFailed."""
    reached = own_keys.applied(call.caller.own_keys, [stage.deployments for stage in stages], own_only=call.own_only)
    return [Stage(deployments, stage.strategy) for stage, deployments in zip(stages, reached, strict=True) if deployments]


def _at_resolution(stage: Stage, resolution: str) -> Stage:
    """With what a film of that resolution costs there: from here on it has no other price."""
    return Stage(tuple(_priced_at(deployment, resolution) for deployment in stage.deployments), stage.strategy)


def _priced_at(deployment: Deployment, resolution: str) -> Deployment:
    price = deployment.price
    if price is None or (rates := price.rates.at_resolution(resolution)) is price.rates:
        return deployment
    return msgspec.structs.replace(deployment, price=msgspec.structs.replace(price, rates=rates))


def _can_serve(model: Model, request: Request, *, kind: str) -> bool:
    """What a model can do is told by its capabilities; where none are declared, nobody knows."""
    return model.kind == kind and not capabilities.missing(request.needs, model.capabilities)


def check_degraded(call: Call, model: Model) -> None:
    """Nobody asked for a model that a policy names, so it must be able to. Raises BadRequest."""
    if missing := capabilities.missing(call.asked.needs, model.capabilities):
        raise BadRequest(f"{model.name} has no {capabilities.in_words(missing)}.", param="model")


def _cost(deployment: Deployment, request: Request) -> int:
    cost = usual_cost(deployment, request)
    return sys.maxsize if cost is None else cost


def usual_cost(deployment: Deployment, request: Request) -> int | None:
    """What the call would cost there if its answer were of usual length, in nano-dollars; None where nothing has a price."""
    if deployment.price is None:
        return None
    return pricing.worst_case(
        deployment.price,
        input_tokens=request.input_tokens_estimate,
        output_tokens=request.max_tokens or routing.USUAL_OUTPUT,
        n=request.n,
        text_only=request.text_only,
        writes=cache_writes.possible(deployment, request),
    )
