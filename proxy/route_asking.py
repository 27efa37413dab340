"""Which route a request would take, for a call that nobody makes.

Guarantees: the plan is the pipeline's own; nothing is sent, held, counted or stored, and what was pasted is written nowhere.
Does not guarantee it for later: circuits open and close, and equals are drawn by lot for every call.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from asgiref.sync import async_to_sync

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from orgs.models import ApiKey
from proxy import attribution, deployments, errors, explaining, permits, pipeline, route_words, startup
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.errors import BadRequest, GuardrailsUnavailable, ProxyError
from proxy.health import board
from proxy.health.state import Circuit
from proxy.protocols import bodies, chat_completions


class Stop(NamedTuple):
    """One place on the way, in the order in which they are tried. `why` in words."""

    deployment: Deployment
    why: str
    circuit: Circuit


class Route(NamedTuple):
    """`call` as it was planned; with a `refusal` what was found out before it. `stops` is empty then."""

    call: Call
    stops: list[Stop]
    refusal: ProxyError | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether the next such call may begin elsewhere, though nothing has changed."""
        return self.call.plan is not None and sum(reason in route_words.DRAWN for reason in self.call.plan.reasons) > 1

    @property
    def preset_model(self) -> str:
        """What the preset goes to, where one was asked for: a model, an alias or `auto`."""
        preset = self.call.caller.names.presets.get(self.call.preset.lower())
        return "" if preset is None else preset.model

    @property
    def alias(self) -> str:
        """The alias that was asked for, by the caller or its preset; empty where none was."""
        name = self.preset_model or self.call.asked.model
        return name if self.call.target and name != self.call.target and name.lower() in self.call.caller.names.aliases else ""


def body_of(text: str, *, model: str) -> bytes:
    """A request as it was pasted, or one that asks what was typed. `model` counts more than the body's. Raises BadRequest."""
    if not text.lstrip().startswith("{"):
        members: dict[str, object] = {"messages": [{"role": "user", "content": text}]}
    else:
        try:
            members = dict(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
        except msgspec.DecodeError as error:
            raise BadRequest(bodies.no_json(text.encode(errors="replace"), error)) from error
    if model:
        members["model"] = model
    elif "model" not in members:
        raise BadRequest("Name a model: the request names none.", param="model")
    return msgspec.json.encode(members)


def route_of(key: ApiKey, body: bytes, *, address: str) -> Route:
    """Raises BadRequest for what no caller could send, GuardrailsUnavailable."""
    return async_to_sync(_route_of)(key.pk, key.organization_id, body, address)


async def _route_of(key_id: int, organization_id: int, body: bytes, address: str) -> Route:
    await startup.ensure()
    caller, refused = await explaining.caller_of(key_id, organization_id=organization_id)
    call = Call(chat_completions.NAME, caller, address=address)
    call.request = chat_completions.parse(body, {})
    try:
        if refused is not None:
            raise errors.CODES[refused.code](str(refused))
        call.feature = attribution.feature_of(call.principal, call.feature_asked)
        permits.check_caller(call)
        await _plan(call)
    except ProxyError as error:
        return Route(call, [], error)
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error
    known = board.current()
    places = zip(call.planned.deployments, call.planned.reasons, strict=True)
    return Route(call, [Stop(one, route_words.PLACES.get(why, why), known.circuit(one)) for one, why in places])


async def _plan(call: Call) -> None:
    """Twice: a worker that had no call lately learns in between what the others know of these deployments."""
    await deployments.refreshed()
    await pipeline.plan_of(call)
    await board.current().exchange()
    call.plan = await pipeline.plan_of(call)
