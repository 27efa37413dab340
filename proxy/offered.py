"""`GET /v1/models`: the declared models this key may call, and the names that stand for models, in the shape its SDK reads.

A model that nobody declared (proxy.listed) is shown when it is asked for by name, and not listed.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime

import msgspec

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from proxy import capabilities, deployments, listed, permits, shown_prices
from proxy.auto import LEANINGS
from proxy.callers import Caller
from proxy.deployments import Catalogue, Model
from proxy.errors import GuardrailsUnavailable, ModelNotFound
from proxy.names import AUTO, PRESET
from proxy.protocols import model_lists
from proxy.protocols.model_lists import ModelEntry, Page


async def all_models(caller: Caller, *, anthropic: Page | None = None) -> bytes:
    """With `anthropic`, that page in Anthropic's shape. Raises BadRequest, GuardrailsUnavailable."""
    catalogue = await _catalogue()
    models = sorted(catalogue.models.values(), key=lambda model: model.name)
    entries = [_entry(caller, model) for model in models if permits.permits(caller, model)]
    try:
        entries += await _given(caller, catalogue, taken={entry.id for entry in entries})
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable from error
    return model_lists.anthropic_list(entries, anthropic, today=_today()) if anthropic else model_lists.openai_list(entries)


async def one(caller: Caller, name: str, *, anthropic: bool = False) -> bytes:
    """Raises ModelNotFound, GuardrailsUnavailable."""
    try:
        entry = await _found(caller, name)
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable from error
    if entry is None:
        raise ModelNotFound(f"The model {name[:100]!r} does not exist or is not offered here.", param="model")
    return model_lists.anthropic_one(entry, today=_today()) if anthropic else model_lists.openai_one(entry)


async def _found(caller: Caller, name: str) -> ModelEntry | None:
    catalogue = await _catalogue()
    model = await listed.find(catalogue, name)
    if model is not None:
        return _entry(caller, model) if permits.permits(caller, model) else None
    return next((entry for entry in await _given(caller, catalogue) if entry.id.lower() == name.lower()), None)


async def _catalogue() -> Catalogue:
    try:
        return await deployments.refreshed()
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error


async def _given(caller: Caller, catalogue: Catalogue, *, taken: Collection[str] = ()) -> list[ModelEntry]:
    """The names that stand for models: the caller's aliases, those of `auto`, its presets. What leads nowhere is left out."""
    names = caller.names
    found = [await _named(caller, catalogue, name, target, "alias") for name, target in sorted(names.aliases.items())]
    if any(model.kind == "chat" and permits.permits(caller, model) for model in catalogue.models.values()):
        found += [_leaning(catalogue, name) for name in LEANINGS]
    for preset in sorted(names.presets.values(), key=lambda one: one.name):
        found.append(await _named(caller, catalogue, f"{PRESET}{preset.name}", preset.model, "preset"))
    return [entry for entry in found if entry is not None and entry.id not in taken]


async def _named(caller: Caller, catalogue: Catalogue, name: str, target: str, owner: str) -> ModelEntry | None:
    """With the facts of the model behind the name; None where the caller may not call that, or it is gone."""
    target = caller.names.aliases.get(target.lower(), target)
    if target in LEANINGS:
        return _leaning(catalogue, name, owner)
    model = await listed.find(catalogue, target)
    if model is None or not permits.permits(caller, model):
        return None
    return msgspec.structs.replace(_entry(caller, model), id=name, owned_by=owner)


def _leaning(catalogue: Catalogue, name: str, owner: str = AUTO) -> ModelEntry:
    """Which model it will be nobody knows, so nothing is known of it but since when there is one to choose."""
    created = min((model.created_at for model in catalogue.models.values() if model.kind == "chat"), default=datetime.now(UTC))
    return ModelEntry(id=name, created=int(created.timestamp()), owned_by=owner)


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
