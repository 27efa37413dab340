"""What the playground offers with one key: the names that its calls may ask for, and what became of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from billing.models import UsageRecord
from gateway_project.lib.formatting import compact
from gateway_project.lib.money import exact_usd
from guardrails import example_call
from orgs.actor import Actor
from orgs.models import ApiKey
from proxy import usable_models
from proxy.auto import LEANINGS
from proxy.names import PRESET
from proxy.usable_models import Offer

EFFORTS = ("minimal", "low", "medium", "high")


class Name(NamedTuple):
    """What a call may ask for, and what the page says of it."""

    name: str
    hint: str


class Choices(NamedTuple):
    """`selected` is one of the names in `groups`, empty where there is none."""

    groups: list[tuple[str, list[Name]]]
    selected: str
    features: list[str]
    efforts: tuple[str, ...] = EFFORTS


def chosen_key(keys: Sequence[ApiKey], asked: str) -> ApiKey | None:
    """The one asked for by its id, else the newest that works."""
    working = [key for key in keys if key.status == "active"]
    return next((key for key in working if str(key.pk) == asked), next(iter(working), None))


def choices_of(key: ApiKey, *, model: str = "") -> Choices:
    """`model`: the name to begin with, if it can be called."""
    given, talks = usable_models.names_of(key), usable_models.chat_offers_to_key(key)
    targets = {*LEANINGS, *(offer.name for offer in talks)} if talks else set()
    presets = [one for one in given.presets.values() if given.aliases.get(one.model.lower(), one.model) in targets]
    groups = [
        ("Models", [Name(offer.name, _hint(offer)) for offer in talks]),
        ("Presets", [Name(PRESET + one.name, f"{one.model} with its parameters") for one in presets]),
        ("Aliases", [Name(name, f"goes to {target}") for name, target in given.aliases.items() if target in targets]),
        ("Chosen by the gateway", [Name(name, "by how much the request needs") for name in LEANINGS if talks]),
    ]
    groups = [(title, names) for title, names in groups if names]
    known = [one.name for _, names in groups for one in names]
    wanted = next((name for name in (model, example_call.model()) if name in known), next(iter(known), ""))
    return Choices(groups, wanted, key.features)


def outcome_of(actor: Actor, call_id: UUID) -> UsageRecord | None:
    """The row of one of the actor's own calls; None while there is none, and for other people's."""
    own = UsageRecord.objects.filter(organization=actor.organization, member=actor.user)
    return own.filter(call_id=call_id).first()


def _hint(offer: Offer) -> str:
    rates = offer.rates
    context = f"{compact(offer.model.context_window)} context" if offer.model.context_window else ""
    price = f"${exact_usd(rates.input)} in, ${exact_usd(rates.output)} out per 1M tokens" if rates else "no price"
    return " · ".join(filter(None, (context, price)))
