"""What the catalogue page shows: offers that match the filters, their prices in words, and what of it will be gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import QueryDict

from billing.pricing import Rates, TokenRates
from gateway_project.lib.money import exact_usd
from orgs.actor import Actor
from proxy import model_uses
from proxy.capabilities import CAPABILITIES
from proxy.catalogue_file import TOKEN_PRICES
from proxy.model_uses import Use
from proxy.models import Model
from proxy.retirement import Retirement
from proxy.usable_models import Offer, Verdict

PILLS: dict[Verdict, tuple[str, str]] = {
    "usable": ("yours to use", "ok"),
    "partly": ("in some groups", "warn"),
    "unapproved": ("needs approval", "warn"),
    "refused": ("not allowed", "bad"),
    "unkeyed": ("no provider key", "bad"),
}
KINDS = dict(Model.Kind.choices)
PRICE_WORDS = {
    "input": "Input",
    "cached_input": "Cached input",
    "cache_write": "Cache write, 5 minutes",
    "cache_write_1h": "Cache write, 1 hour",
    "output": "Output",
    "audio_input": "Audio input",
    "image_input": "Image input",
    "audio_output": "Audio output",
    "image_output": "Image output",
}


class Row(NamedTuple):
    """`url` of the model's own page; `unit` is its price where it is sold by the piece."""

    offer: Offer
    url: str
    kind: str
    pill: str
    tone: str
    input_nano_usd: int | None
    output_nano_usd: int | None
    unit: str


class Ending(NamedTuple):
    """A model in use that is deprecated, about to be gone, or gone."""

    use: Use
    retirement: Retirement


def rows_of(offers: Sequence[Offer], query: Mapping[str, str], *, page: str) -> list[Row]:
    """`page` is the path of the page of one model, which is named in its query."""
    return [_row(offer, page) for offer in offers if _matches(offer, query)]


def endings_in_use(offers: Sequence[Offer], *, actor: Actor) -> list[Ending]:
    ending = {offer.name: offer.retirement for offer in offers if offer.retirement and offer.retirement.is_pressing}
    found = [Ending(use, ending[use.model]) for use in model_uses.of_models(ending.keys(), actor=actor)]
    return sorted(found, key=lambda one: one.retirement.days if one.retirement.days is not None else 10**6)


def filters_of(offers: Sequence[Offer], query: QueryDict) -> dict[str, Any]:
    """Arguments of components/filter_bar.html; only what is there can be chosen."""
    kinds = [(kind, label) for kind, label in KINDS.items() if any(offer.model.kind == kind for offer in offers)]
    words = [(word, label) for word, label in CAPABILITIES.items() if any(word in offer.model.capabilities for offer in offers)]
    providers = sorted({name for offer in offers for name in offer.providers}, key=str.lower)
    selects = [
        _select("kind", "Kind", "All kinds", kinds, query),
        _select("capability", "Capability", "Any capability", words, query),
        _select("provider", "Provider", "All providers", [(name, name) for name in providers], query),
        _select("may", "Use", "Allowed or not", [("use", "Only those I may use")], query),
    ]
    kept = {name: query[name] for name in ("kind", "capability", "provider", "may") if query.get(name)}
    search = query.get("q", "")
    return {
        "selects": selects,
        "keep": {"q": search} if search else {},
        "search": search,
        "search_keep": kept,
        "narrowed": bool(search or kept),
    }


def prices_of(rates: Rates) -> list[tuple[str, str, str]]:
    """(what, dollars, per what), tiers included."""
    found = _token_prices(rates, per="1M tokens")
    for tier in rates.tiers:
        found += _token_prices(tier, per=f"1M tokens of a call with more than {tier.above:,} in")
    each = rates.units | ({"request": rates.request} if rates.request else {})
    worded = {name: name.replace("second_", "second at ").replace("_", " ") for name in each}
    return found + [(worded[name].capitalize(), _dollars(amount), worded[name]) for name, amount in sorted(each.items())]


def _token_prices(rates: TokenRates, *, per: str) -> list[tuple[str, str, str]]:
    given = [(words, getattr(rates, TOKEN_PRICES[name])) for name, words in PRICE_WORDS.items()]
    return [(words, _dollars(amount), per) for words, amount in given if amount is not None]


def _dollars(nano: int) -> str:
    return f"${exact_usd(nano)}"


def _row(offer: Offer, page: str) -> Row:
    pill, tone = PILLS[offer.verdict]
    rates = offer.rates
    sold = None if rates is None or rates.input or rates.output else next(iter(rates.units.items()), None)
    return Row(
        offer=offer,
        url=f"{page}?{urlencode({'name': offer.name})}",
        kind=KINDS.get(offer.model.kind, ""),
        pill=pill,
        tone=tone,
        input_nano_usd=rates.input if rates and not sold else None,
        output_nano_usd=rates.output if rates and not sold and offer.model.kind != "embedding" else None,
        unit=f"{_dollars(sold[1])} per {sold[0]}" if sold else "",
    )


def _matches(offer: Offer, query: Mapping[str, str]) -> bool:
    model, wanted = offer.model, query.get("q", "").strip().lower()
    return (
        (not wanted or any(wanted in text.lower() for text in (model.name, *offer.providers)))
        and query.get("kind", "") in {"", model.kind}
        and query.get("capability", "") in {"", *model.capabilities}
        and query.get("provider", "") in {"", *offer.providers}
        and (query.get("may") != "use" or offer.is_usable)
    )


def _select(name: str, label: str, everything: str, options: Sequence[tuple[str, str]], query: QueryDict) -> dict[str, Any]:
    offered = [{"value": "", "label": everything}, *({"value": value, "label": words} for value, words in options)]
    return {"name": name, "label": label, "value": query.get(name, ""), "options": offered}
