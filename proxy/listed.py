"""Models that nobody declared: `<provider>/<its own name>`, for whatever the price list knows of that provider's kind.

Such a name is a model like any other to permits, prices, limits and the ledger; it has one deployment, whose id is below zero
because there is no row of it. What was looked up is kept in the worker's catalogue, so it is gone with it when providers,
models or prices change. A declared model of the same name wins.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billing import prices
from billing.pricing import Price
from gateway_project.lib import database
from proxy import deployments, shipped
from proxy.deployments import Catalogue, Listed, Model

MAX_KEPT = 1000
# How long a name that the list does not have is not asked for again.
ABSENT_SECONDS = 60.0
# Whose prices a kind has that the list does not name itself.
SAME_PRICES = {"vertex": "gemini"}

# The skus of these names whatever their case, and since when the list has had them.
LISTED_SQL = """
SELECT sku, min(created_at) AS known_at FROM billing_priceversion WHERE lower(sku) = ANY(%(skus)s) GROUP BY sku
"""


async def find(catalogue: Catalogue, name: str) -> Model | None:
    """A model by its name, declared or listed. Raises DatabaseUnavailable."""
    known = catalogue.listed.get(name)
    if name in catalogue.models or (known is not None and time.time() < known.expires_at):
        return catalogue.find(name)
    account, _, upstream = name.partition("/")
    row = catalogue.accounts.get(account)
    if row is None or not upstream:
        return None
    if len(catalogue.listed) >= MAX_KEPT:
        catalogue.listed.clear()
    found = catalogue.listed[name] = await _look_up(row, name, upstream)
    return found.model


def skus(kind: str, upstream: str) -> list[str]:
    """Where the list may have it, in lower case: names there and names of an API differ in case here and there."""
    kinds = [kind, SAME_PRICES[kind]] if kind in SAME_PRICES else [kind]
    return [f"{one}/{upstream}".lower() for one in kinds]


async def _look_up(account: Mapping[str, Any], name: str, upstream: str) -> Listed:
    wanted = {"skus": skus(account["provider_kind"], upstream)}
    known_at = {row["sku"]: row["known_at"] for row in await database.rows(LISTED_SQL, wanted)}
    rows = await database.rows(prices.PRICES_SQL, {"skus": list(known_at), "at": datetime.now(UTC)}) if known_at else []
    found = next(filter(None, map(prices.price_from_row, rows)), None)
    if found is None:
        return Listed(None, time.time() + ABSENT_SECONDS)
    offered_at = max(account["account_created_at"], min(known_at.values()))
    # The file of shipped models is read once, which takes a tenth of a second.
    await asyncio.to_thread(shipped.models)
    model = _model(account, name, upstream, found, offered_at)
    return Listed(model, found.valid_until.timestamp() if found.valid_until else float("inf"))


def _model(account: Mapping[str, Any], name: str, upstream: str, price: Price, offered_at: datetime) -> Model | None:
    """With what the shipped models tell of it; None where the account cannot be used."""
    facts = shipped.named(upstream, kind=account["provider_kind"])
    row = {
        **account,
        "name": name,
        "kind": facts.kind if facts else "",
        "context_window": facts.context_window if facts else None,
        "max_output_tokens": facts.max_output_tokens if facts else None,
        "capabilities": facts.capabilities if facts else [],
        "deprecated_on": facts.deprecated_on if facts else None,
        "retires_on": facts.retires_on if facts else None,
        "replaced_by": facts.replaced_by if facts else "",
        "timeout": {},
        "created_at": offered_at,
        "circuit_breaker": True,
        "strategy": "order",
        "fallbacks": [],
        "deployment_id": _id_of(account["provider_id"], upstream),
        "upstream_model": upstream,
        "order": 1,
        "weight": 1,
        "rpm": None,
        "tpm": None,
        "zdr": False,
    }
    return deployments.model_of(row, price)


def _id_of(provider_id: int, upstream: str) -> int:
    """The same in every worker: health and quotas of a deployment are shared under its id."""
    digest = hashlib.blake2b(f"{provider_id}/{upstream}".encode(errors="replace"), digest_size=6).digest()
    return -1 - int.from_bytes(digest)
