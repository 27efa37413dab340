"""Rates as people and programs read them: dollars as exact text, under the names of the catalogue file."""

from __future__ import annotations

from typing import Any

from billing.pricing import Rates, TokenRates
from gateway_project.lib.money import exact_usd
from proxy.catalogue_file import TOKEN_PRICES


def of(rates: Rates) -> dict[str, Any]:
    """`{"input": "0.25", "output": "2"}` in dollars per million tokens; per one: `image`, `second`, `request` …; `tiers`."""
    shown: dict[str, Any] = _tokens(rates)
    shown |= {unit: exact_usd(amount) for unit, amount in rates.units.items()}
    if rates.request:
        shown["request"] = exact_usd(rates.request)
    if rates.tiers:
        shown["tiers"] = [{"above": tier.above, **_tokens(tier)} for tier in rates.tiers]
    return shown


def _tokens(rates: TokenRates) -> dict[str, Any]:
    given = {name: getattr(rates, kind) for name, kind in TOKEN_PRICES.items()}
    return {name: exact_usd(amount) for name, amount in given.items() if amount is not None}
