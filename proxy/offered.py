"""`GET /v1/models`: the declared models this key may call, in the shape that its SDK reads.

A model that nobody declared (proxy.listed) is shown when it is asked for by name, and not listed.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from proxy import capabilities, deployments, listed, permits, shown_prices
from proxy.callers import Caller
from proxy.deployments import Catalogue, Model
from proxy.errors import GuardrailsUnavailable, ModelNotFound
from proxy.protocols import model_lists
from proxy.protocols.model_lists import ModelEntry, Page


async def all_models(caller: Caller, *, anthropic: Page | None = None) -> bytes:
    """With `anthropic`, that page in Anthropic's shape. Raises BadRequest."""
    catalogue = await _catalogue()
    models = sorted(catalogue.models.values(), key=lambda model: model.name)
    entries = [_entry(caller, model) for model in models if permits.permits(caller, model)]
    return model_lists.anthropic_list(entries, anthropic, today=_today()) if anthropic else model_lists.openai_list(entries)


async def one(caller: Caller, name: str, *, anthropic: bool = False) -> bytes:
    """Raises ModelNotFound."""
    try:
        model = await listed.find(await _catalogue(), name)
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable from error
    if model is None or not permits.permits(caller, model):
        raise ModelNotFound(f"The model {name[:100]!r} does not exist or is not offered here.", param="model")
    entry = _entry(caller, model)
    return model_lists.anthropic_one(entry, today=_today()) if anthropic else model_lists.openai_one(entry)


async def _catalogue() -> Catalogue:
    try:
        return await deployments.refreshed()
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error


def _entry(caller: Caller, model: Model) -> ModelEntry:
    """Provider and price are those of the first deployment that this key's calls may go to."""
    first = permits.deployments_for(caller, model)[0]
    return ModelEntry(
        id=model.name,
        created=int(model.created_at.timestamp()),
        owned_by=first.target.provider_name,
        kind=model.kind,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        capabilities=capabilities.in_order(model.capabilities),
        pricing=shown_prices.of(first.price.rates) if first.price else None,
        deprecated_on=model.deprecated_on,
        retires_on=model.retires_on,
        replaced_by=model.replaced_by or None,
    )


def _today() -> date:
    return datetime.now(UTC).date()
