"""What the pages of presets show, put together for their templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from orgs.actor import Actor
from orgs.permissions import Permission
from proxy.models import Preset
from proxy.named import presets_visible_to
from proxy.names import PRESET

LABELS = {
    "temperature": "temperature",
    "top_p": "top p",
    "max_tokens": "at most {:,} output tokens",
    "reasoning_effort": "reasoning effort",
    "stop": "stops at",
}


class Card(NamedTuple):
    """One preset. `called`: what a program gives as the model; `where`: the groups from the root down to its own."""

    preset: Preset
    called: str
    where: str
    parameters: list[str]
    may_manage: bool


def cards_of(actor: Actor) -> tuple[list[Card], list[Card]]:
    """Those in use, and the archived ones that the actor may bring back."""
    cards = [card_of(preset, actor=actor) for preset in presets_visible_to(actor)]
    used = [card for card in cards if card.preset.archived_at is None]
    return used, [card for card in cards if card.preset.archived_at is not None and card.may_manage]


def card_of(preset: Preset, *, actor: Actor) -> Card:
    return Card(
        preset,
        called=f"{PRESET}{preset.name}",
        where=" / ".join(group.name for group in preset.group.path()),
        parameters=words_of(preset.parameters),
        may_manage=actor.can(Permission.MANAGE_ROUTING, preset.group),
    )


def words_of(parameters: Mapping[str, Any]) -> list[str]:
    """ "temperature 0.2", "at most 500 output tokens"."""
    return [_words(label, parameters[name]) for name, label in LABELS.items() if name in parameters]


def _words(label: str, value: Any) -> str:
    if "{" in label:
        return label.format(value)
    return f"{label} {', '.join(map(repr, value))}" if isinstance(value, list) else f"{label} {value}"
