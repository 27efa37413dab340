"""One limit as a form shows it: what it may be, what was typed, in which unit."""

from __future__ import annotations

from typing import NamedTuple

from gateway_project.lib.money import field_usd
from guardrails.models import Limit

UNITS = {
    Limit.Kind.RPM: "requests",
    Limit.Kind.TPM: "tokens",
    Limit.Kind.RPD: "requests",
    Limit.Kind.PARALLEL: "calls",
    Limit.Kind.MAX_TOKENS: "tokens",
    Limit.Kind.KEYS: "keys",
    Limit.Kind.SEATS: "members",
}


def _label(kind: str, window: str) -> str:
    if kind == Limit.Kind.BUDGET:
        return f"Budget {Limit.Window(window).label}"
    return {Limit.Kind.KEYS: "Number of API keys", Limit.Kind.SEATS: "Number of members"}.get(
        Limit.Kind(kind), Limit.Kind(kind).label
    )


# What a row may be: "budget month" → "Budget per month".
CHOICES = {f"{kind} {window}": _label(kind, window) for kind, windows in Limit.WINDOWS.items() for window in windows}


class Row(NamedTuple):
    """One limit as it stands in the form. `text` is what was typed: dollars or a count."""

    what: str
    text: str
    error: str = ""
    counts_byok: bool = False

    @property
    def is_budget(self) -> bool:
        return self.what.startswith("budget")

    @property
    def unit(self) -> str:
        kind = self.what.partition(" ")[0]
        return UNITS[Limit.Kind(kind)] if kind in UNITS else ""

    @property
    def label(self) -> str:
        return CHOICES.get(self.what, "")

    @property
    def words(self) -> str:
        return f"{self.label} {'$' if self.is_budget else ''}{self.text}{' with own provider keys' if self.counts_byok else ''}"

    @property
    def choices(self) -> list[tuple[str, str]]:
        return list(CHOICES.items())


def row_of(limit: Limit) -> Row:
    text = field_usd(limit.value) if limit.kind == Limit.Kind.BUDGET else str(limit.value)
    return Row(f"{limit.kind} {limit.window}", text, counts_byok=limit.counts_byok)
