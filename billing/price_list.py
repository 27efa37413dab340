"""Public list prices, as the installed genai-prices package knows them, turned into our rates.

The package is read when prices are synchronised, never while a call is served: importing it takes half
a second and tens of megabytes. Its updater, which fetches prices over the network, is never started.

Sku: `<kind>/<model id>`, kind being our name for the provider. What the package knows is kept exactly or
not at all: a model without a price per token, or with a figure finer than a nano-dollar per million
tokens (float noise such as 0.18000000000000002), has no listing, and the reason is reported. Only a
cache-write price that falls back to a dearer input price may be left out by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from billing.pricing import Rates, Tier, TokenRates
from gateway_project.lib.money import NANO, BadAmount, parse_usd

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, Provider

    PriceValue = Decimal | Any

Timeline = list[tuple[datetime, Rates]]

PACKAGE = "genai-prices"
# Raised when the conversion below changes, so that the next synchronisation looks at every price again.
REVISION = 2
# Where our name for a kind of provider is not the package's. Vertex AI has Google's list prices.
PROVIDER_OF_KIND = {
    "gemini": "google",
    "xai": "x-ai",
    "moonshot": "moonshotai",
    "bedrock": "aws",
    "vertex": "google",
    "zhipu": "zai",
}
KIND_OF_PROVIDER = {provider: kind for kind, provider in PROVIDER_OF_KIND.items() if kind != "vertex"}
# A price without a date holds from the beginning.
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_TOKEN_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "input_image_mtok": "image_input",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
}
_UNITS_PER_THOUSAND = {"web_searches_kcount": "web_search", "storage_searches_kcount": "storage_search"}


class Unlisted(ValueError):
    """The package's price of a model cannot be kept exactly, or is not a price per token."""


@dataclass(frozen=True)
class PriceList:
    """Timelines by sku, and why the other skus have none."""

    timelines: dict[str, Timeline] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)


@cache
def source() -> str:
    """What a row seeded from the installed package names as its source. Asked for with every row of thousands."""
    return f"{PACKAGE} {version(PACKAGE)} r{REVISION}"


@cache
def read() -> PriceList:
    """Every model of every provider. One list for all who ask, which nobody changes."""
    found = PriceList()
    for provider in _providers():
        kind = KIND_OF_PROVIDER.get(provider.id, provider.id)
        for model in provider.models:
            sku = f"{kind}/{model.id}"
            try:
                found.timelines[sku] = timeline_of(model)
            except Unlisted as reason:
                found.unlisted[sku] = str(reason)
    return found


def match(sku: str) -> Timeline | None:
    """The timeline of a name the list does not spell out, by the package's own rules.

    `openai/gpt-5-mini-2025-08-07` is gpt-5-mini; `azure/gpt-4o` is OpenAI's. Deterministic: the first
    match in the package's order.
    """
    kind, _, name = sku.partition("/")
    providers = _providers()
    wanted = PROVIDER_OF_KIND.get(kind, kind)
    provider = next((provider for provider in providers if provider.id == wanted), None)
    model = provider.find_model(name, all_providers=providers) if provider else None
    try:
        return timeline_of(model) if model else None
    except Unlisted:
        return None


def timeline_of(model: ModelInfo) -> Timeline:
    """(valid from, rates) in order. Raises Unlisted.

    Dates are midnight UTC. Of prices that depend on the time of day the dearest of the day is kept, kind
    by kind: one price holds until the next version, and it must not be less than what is paid.
    """
    from genai_prices.types import ConditionalPrice, StartDateConstraint

    dated = model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]
    moments = {BEGINNING} | {
        datetime.combine(price.constraint.start_date, time(), tzinfo=UTC)
        for price in dated
        if isinstance(price.constraint, StartDateConstraint)
    }
    timeline: Timeline = []
    for moment in sorted(moments):
        rates = _rates_on(dated, moment)
        if not timeline or timeline[-1][1] != rates:
            timeline.append((moment, rates))
    return timeline


@cache
def _providers() -> list[Provider]:
    from genai_prices.data import providers

    return providers


def _rates_on(prices: list[ConditionalPrice], moment: datetime) -> Rates:
    """The last price whose date has come, as the package chooses, with the times of day that override it."""
    from genai_prices.types import TimeOfDateConstraint

    chosen, by_hour = prices[0], []
    for price in prices:
        if isinstance(price.constraint, TimeOfDateConstraint):
            by_hour.append(rates_of(price.prices))
        elif price.constraint is None or price.constraint.active(moment):
            chosen, by_hour = price, []
    rates = rates_of(chosen.prices)
    return _dearest([rates, *by_hour]) if by_hour else rates


def _dearest(alternatives: list[Rates]) -> Rates:
    if any(rates.tiers or rates.request or rates.units for rates in alternatives):
        raise Unlisted("tiers or fees that depend on the time of day")
    kinds = [kind for kind in TokenRates.__struct_fields__ if any(getattr(rates, kind) is not None for rates in alternatives)]
    return msgspec.convert({kind: max(rates.of(kind) for rates in alternatives) for kind in kinds}, Rates)


def rates_of(price: ModelPrice) -> Rates:
    """One of the package's prices as ours. Raises Unlisted.

    A model without an output price (embeddings) has none to bill; its output is priced like its input.
    """
    values = {key: value for key, value in vars(price).items() if value is not None}
    if "input_mtok" not in values:
        raise Unlisted("no price per input token")
    tokens = {_TOKEN_KINDS[key]: value for key, value in values.items() if key in _TOKEN_KINDS}
    tokens.setdefault("output", tokens["input"])
    tokens = _without_inexact_writes(tokens)
    return Rates(
        **{kind: _nano(kind, _value_above(value, -1)) for kind, value in tokens.items()},
        tiers=tuple(_tiers(tokens)),
        request=_thousandth("requests_kcount", values.get("requests_kcount", Decimal(0))),
        units={unit: _thousandth(key, values[key]) for key, unit in _UNITS_PER_THOUSAND.items() if key in values},
    )


def _without_inexact_writes(tokens: dict[str, PriceValue]) -> dict[str, PriceValue]:
    """A write price such as 0.0833333333333333 is left out if what it then falls back to is no cheaper: never under."""
    kept = dict(tokens)
    for kind, next_kinds in (("cache_write_5m", ("input",)), ("cache_write_1h", ("cache_write_5m", "input"))):
        value = kept.get(kind)
        if value is None or hasattr(value, "tiers") or not value * NANO % 1:
            continue
        fallback = next(kept[name] for name in next_kinds if name in kept)
        if _cheapest(fallback) >= value:
            del kept[kind]
    return kept


def _cheapest(value: PriceValue) -> Decimal:
    return min([Decimal(getattr(value, "base", value)), *(Decimal(tier.price) for tier in getattr(value, "tiers", ()))])


def _tiers(tokens: dict[str, PriceValue]) -> Iterable[Tier]:
    """The package gives each kind tiers of its own; a tier of ours holds every kind's price above a threshold."""
    for above in sorted({tier.start for value in tokens.values() for tier in getattr(value, "tiers", ())}):
        yield Tier(above=above, **{kind: _nano(kind, _value_above(value, above)) for kind, value in tokens.items()})


def _value_above(value: PriceValue, threshold: int) -> Decimal:
    """The price of a call with more input tokens than the threshold, and no more than the next one."""
    price = getattr(value, "base", value)
    for tier in getattr(value, "tiers", ()):
        if tier.start <= threshold:
            price = tier.price
    return Decimal(price)


def _nano(kind: str, usd: Decimal) -> int:
    try:
        nano = parse_usd(usd)
    except BadAmount as error:
        raise Unlisted(f"{kind}: {error}") from error
    if nano < 0:
        raise Unlisted(f"{kind}: {usd} is negative")
    return nano


def _thousandth(key: str, usd: Decimal) -> int:
    return _nano(key, usd / 1000)


def encoded(rates: Rates) -> dict[str, Any]:
    """As `PriceVersion.rates` stores it."""
    return dict(msgspec.json.decode(msgspec.json.encode(rates)))
