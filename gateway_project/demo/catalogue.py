"""The demo organisation's models: the sandbox's own, and names that people know, all served by the sandbox.

A call for `claude-sonnet-5` here reaches no Anthropic: its one deployment is of the provider named `sandbox`, and every
answer and ledger row says so. Only the price is the real one (list prices of autumn 2026, USD per million tokens).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from billing.models import PriceVersion
from billing.price_list import BEGINNING, encoded
from proxy import catalogue, catalogue_file
from proxy.models import Model
from proxy.sandbox.catalogue import MODELS as SANDBOX

SOURCE = "demo"


ORDINARY = ("streaming", "tools", "parallel_tools", "structured_output", "vision", "prompt_cache")
REASONING = (*ORDINARY, "files", "reasoning")


class Familiar(NamedTuple):
    """A known name, the sandbox model behind it, its list price per million tokens (input, cached input, output), what it can."""

    name: str
    served_by: str
    input_usd: str
    cached_input_usd: str
    output_usd: str
    capabilities: tuple[str, ...] = ORDINARY


FAMILIAR = (
    Familiar("gpt-5-mini", "sandbox-fast", "0.25", "0.025", "2"),
    Familiar("gpt-5.5", "sandbox-standard", "5", "0.5", "30", REASONING),
    Familiar("claude-haiku-4-5", "sandbox-fast", "1", "0.1", "5"),
    Familiar("claude-sonnet-5", "sandbox-standard", "2", "0.2", "10", REASONING),
    Familiar("claude-opus-5", "sandbox-large", "5", "0.5", "25", REASONING),
    Familiar("gemini-3.5-flash", "sandbox-fast", "1.5", "0.15", "9", (*REASONING, "audio_input", "video_input")),
)


def declare_missing() -> None:
    """Adds the models that are not there; what an operator has made of one since stays as it is."""
    declared = catalogue.sandbox_declaration()
    known = set(Model.objects.values_list("name", flat=True))
    missing = [model for model in (*declared["models"], *map(_declaration, FAMILIAR)) if model["name"] not in known]
    if missing:
        text = yaml.safe_dump({**declared, "models": missing}, sort_keys=False)
        _price_the_past(text)
        catalogue.load(text)


def _declaration(model: Familiar) -> dict[str, Any]:
    behind = SANDBOX[model.served_by]
    return {
        "name": model.name,
        "kind": "chat",
        "context_window": behind.context_window,
        "max_output_tokens": behind.max_output_tokens,
        "capabilities": list(model.capabilities),
        "price": {"input": model.input_usd, "cached_input": model.cached_input_usd, "output": model.output_usd},
        "deployments": [{"provider": "sandbox", "model": model.served_by}],
    }


def _price_the_past(text: str) -> None:
    """A declared price begins now. The history is billed by prices in force at its time, so these hold from the beginning."""
    declared, _ = catalogue_file.read(text)
    priced = {f"model:{model.name}": model.price for model in declared.models if model.price is not None}
    known = set(PriceVersion.objects.filter(sku__in=priced).values_list("sku", flat=True))
    PriceVersion.objects.bulk_create(
        PriceVersion(sku=sku, valid_from=BEGINNING, source=SOURCE, rates=encoded(rates))
        for sku, rates in priced.items()
        if sku not in known
    )
