"""The catalogue as the hot path sees it: every model with its deployments, credentials opened, prices resolved.

One immutable snapshot per worker, replaced when the catalogue's epoch has changed or a price version
begins. A model whose deployment cannot be used (unknown kind, credential that does not open) keeps its
other deployments; the reason is logged.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import structlog

from billing import prices
from billing.pricing import Price
from gateway_project.lib import crypto, database
from gateway_project.lib.loops import PerLoop
from orgs import epoch
from proxy.canonical.request import Request
from proxy.providers import registry
from proxy.providers.base import Target, Timeouts

log = structlog.get_logger(__name__)


class Deployment(msgspec.Struct, frozen=True):
    """One way to serve a model. A call may fall back to another model's, so each knows its model's name and bounds.

    `rpm`, `tpm`: what its provider grants a minute, None where nothing is declared. `zdr`: it promises to retain nothing.
    `capabilities`: its model's.
    """

    id: int
    provider: registry.Provider
    target: Target
    price: Price | None
    order: int
    weight: int
    model: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    circuit_breaker: bool = True
    rpm: int | None = None
    tpm: int | None = None
    zdr: bool = False
    # Called with this key of the caller's organisation in place of the operator's (proxy/own_keys.py).
    own_key_id: int | None = None

    def protocol_for(self, request: Request) -> str:
        """What its provider is spoken to in. A dated surface of Azure's may have fewer protocols."""
        is_dated = self.target.options.get("api_version", "v1") != "v1"
        calling = self.target.model if "tools" in request.tool_needs and not is_dated else ""
        return self.provider.protocol_for(request.protocol, calling=calling)

    @property
    def health_name(self) -> str:
        """Under which the workers keep what they know of it (proxy/health/keys.py). An own key has quotas and troubles of
        its own: one tenant's must not open the circuit of all."""
        return str(self.id) if self.own_key_id is None else f"{self.id}k{self.own_key_id}"


class Model(msgspec.Struct, frozen=True):
    """`deployments` in the order they were declared to be tried in; `strategy` chooses among those of equal order.

    `fallbacks`: names of the models whose deployments are tried after its own. `capabilities` is empty where nothing is known,
    and so is the `kind` of a model that nobody declared: its provider will tell what it takes.
    """

    name: str
    kind: str
    context_window: int | None
    max_output_tokens: int | None
    created_at: datetime
    deployments: tuple[Deployment, ...]
    capabilities: frozenset[str] = frozenset()
    deprecated_on: date | None = None
    retires_on: date | None = None
    replaced_by: str = ""
    strategy: str = "order"
    fallbacks: tuple[str, ...] = ()


class Listed(msgspec.Struct, frozen=True):
    """A name that was looked up in the price list; `model` is None where it is not there. Holds until `expires_at`, Unix time."""

    model: Model | None
    expires_at: float


class Catalogue(msgspec.Struct, frozen=True):
    epoch: str
    models: dict[str, Model]
    # Unix time at which a known price version replaces one in use.
    expires_at: float
    # Providers by name, as rows of ACCOUNTS_SQL, and models that proxy.listed has found for them.
    accounts: dict[str, dict[str, Any]] = {}
    listed: dict[str, Listed] = {}

    def find(self, name: str) -> Model | None:
        """A declared model, or a listed one that was looked up before."""
        model = self.models.get(name)
        if model is not None or name not in self.listed:
            return model
        known = self.listed[name]
        return known.model if time.time() < known.expires_at else None


ACCOUNTS_SQL = """
SELECT id AS provider_id, name AS provider_name, kind AS provider_kind, base_url, api_key_env, api_key_encrypted, options,
       created_at AS account_created_at
FROM proxy_provider
WHERE enabled
"""

CATALOGUE_SQL = """
SELECT m.name, m.kind, m.context_window, m.max_output_tokens, m.capabilities, m.deprecated_on, m.retires_on,
       m.replaced_by, m.timeout, m.created_at, m.circuit_breaker, m.strategy, m.fallbacks,
       d.id AS deployment_id, d.upstream_model, d."order", d.weight, d.rpm, d.tpm, d.zdr,
       p.id AS provider_id, p.name AS provider_name, p.kind AS provider_kind, p.base_url, p.api_key_env,
       p.api_key_encrypted, p.options
FROM proxy_model m
JOIN proxy_deployment d ON d.model_id = m.id
JOIN proxy_provider p ON p.id = d.provider_id
WHERE m.enabled AND p.enabled
ORDER BY m.name, d."order", d.id
"""

_current: Catalogue | None = None
# One at a time: of two readers the slower could put an older snapshot in place of a newer one.
_refreshing = PerLoop(asyncio.Lock)


async def catalogue() -> Catalogue:
    """The snapshot in use; the caller asks `refreshed` where its absence of something decides."""
    if _current is None or time.time() >= _current.expires_at:
        return await refreshed()
    return _current


async def refreshed() -> Catalogue:
    """The snapshot as the database has it now. Raises DatabaseUnavailable, RedisUnavailable."""
    async with _refreshing():
        return await _refreshed()


async def _refreshed() -> Catalogue:
    global _current
    read = await epoch.read(epoch.CATALOGUE)
    if _current is not None and _current.epoch == read.value and not read.dirty and time.time() < _current.expires_at:
        return _current
    _current = await _read(read.value)
    return _current


async def as_stored() -> Catalogue:
    """Read for one call, while nobody can tell whether a remembered one still holds. Raises DatabaseUnavailable."""
    return await _read("")


async def _read(epoch_value: str) -> Catalogue:
    rows = await database.rows(CATALOGUE_SQL)
    models = assembled(rows, await database.rows(prices.PRICES_SQL, {"skus": skus_of(rows), "at": datetime.now(UTC)}))
    priced = (one.price for model in models.values() for one in model.deployments)
    until = [price.valid_until.timestamp() for price in priced if price is not None and price.valid_until is not None]
    accounts = {row["provider_name"]: row for row in await database.rows(ACCOUNTS_SQL)}
    return Catalogue(epoch_value, models, min(until, default=float("inf")), accounts)


def assembled(rows: list[dict[str, Any]], priced: list[dict[str, Any]]) -> dict[str, Model]:
    """Models by name, from rows of CATALOGUE_SQL and the rows of PRICES_SQL for `skus_of` them."""
    by_sku = {row["sku"]: price for row in priced if (price := prices.price_from_row(row)) is not None}
    models: dict[str, Model] = {}
    for row in rows:
        deployment = _deployment(row, next((by_sku[sku] for sku in _skus(row) if sku in by_sku), None))
        if deployment is not None:
            models[row["name"]] = _with(models.get(row["name"]) or _model(row), deployment)
    return models


def skus_of(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({sku for row in rows for sku in _skus(row)})


def _skus(row: dict[str, Any]) -> list[str]:
    """Where the price of a deployment is looked up; the first that has one counts."""
    return prices.skus_for(model=row["name"], kind=row["provider_kind"], upstream_model=row["upstream_model"])


def model_of(row: dict[str, Any], price: Price) -> Model | None:
    """A model with one deployment, from a row such as CATALOGUE_SQL gives; None where the deployment cannot be used."""
    deployment = _deployment(row, price)
    return None if deployment is None else _with(_model(row), deployment)


def _model(row: dict[str, Any]) -> Model:
    return Model(
        name=row["name"],
        kind=row["kind"],
        context_window=row["context_window"],
        max_output_tokens=row["max_output_tokens"],
        created_at=row["created_at"],
        deployments=(),
        capabilities=frozenset(row["capabilities"]),
        deprecated_on=row["deprecated_on"],
        retires_on=row["retires_on"],
        replaced_by=row["replaced_by"],
        strategy=row["strategy"],
        fallbacks=tuple(row["fallbacks"]),
    )


def _with(model: Model, deployment: Deployment) -> Model:
    return msgspec.structs.replace(model, deployments=(*model.deployments, deployment))


def _deployment(row: dict[str, Any], price: Price | None) -> Deployment | None:
    try:
        provider = registry.provider(row["provider_kind"]).configured(row["options"])
        if not provider.makes(row["kind"]):
            raise registry.UnknownKind(f"Providers of kind {provider.kind} are asked for no {row['kind']} by this version.")
        target = _target(row, provider)
    except (registry.UnknownKind, registry.BadOptions, crypto.CannotDecrypt, msgspec.ValidationError) as error:
        log.error("catalogue.deployment_unusable", model=row["name"], provider=row["provider_name"], reason=str(error))
        return None
    return Deployment(
        row["deployment_id"],
        provider,
        target,
        price,
        row["order"],
        row["weight"],
        model=row["name"],
        capabilities=frozenset(row["capabilities"]),
        **{name: row[name] for name in ("context_window", "max_output_tokens", "circuit_breaker", "rpm", "tpm", "zdr")},
    )


def _target(row: dict[str, Any], provider: registry.Provider) -> Target:
    key = _credential(row) or provider.default_key()
    return Target(
        provider_id=row["provider_id"],
        deployment_id=row["deployment_id"],
        provider_name=row["provider_name"],
        kind=row["provider_kind"],
        base_url=row["base_url"] or provider.base_url() or "",
        model=row["upstream_model"],
        api_key=key,
        options=row["options"],
        timeouts=msgspec.convert(row["timeout"], Timeouts),
        unset_variable="" if key else row["api_key_env"],
    )


def _credential(row: dict[str, Any]) -> str | None:
    if row["api_key_env"]:
        return os.environ.get(row["api_key_env"])
    if row["api_key_encrypted"]:
        return crypto.decrypt(row["api_key_encrypted"], bound_to=f"proxy_provider|{row['provider_name']}|api_key")
    return None
