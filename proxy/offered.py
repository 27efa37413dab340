"""`GET /v1/models`: the models this key may call."""

from __future__ import annotations

import msgspec

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from proxy import deployments, permits
from proxy.callers import Caller
from proxy.deployments import Model
from proxy.errors import GuardrailsUnavailable, ModelNotFound
from proxy.protocols.chat_completions import ModelEntry, render_models


async def all_models(caller: Caller) -> bytes:
    return render_models(_entry(model) for model in await _models(caller))


async def one(caller: Caller, name: str) -> bytes:
    """Raises ModelNotFound."""
    for model in await _models(caller):
        if model.name == name:
            return msgspec.json.encode(_entry(model))
    raise ModelNotFound(f"The model {name[:100]!r} does not exist or is not offered here.", param="model")


async def _models(caller: Caller) -> list[Model]:
    try:
        catalogue = await deployments.refreshed()
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error
    allowed = (model for model in catalogue.models.values() if permits.permits(caller, model))
    return sorted(allowed, key=lambda model: model.name)


def _entry(model: Model) -> ModelEntry:
    return ModelEntry(
        id=model.name, created=int(model.created_at.timestamp()), owned_by=model.deployments[0].target.provider_name
    )
