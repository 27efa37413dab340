"""What is odd about a policy though it is valid: shown to whoever saves it, never in the way. Pure.

A policy is judged by itself, against what is offered, and at each place it is bound to against the policies above and
below that place. Every sentence names what decides in the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from gateway_project.lib.money import limit_usd
from guardrails import patterns
from guardrails.offered import OfferedModel

# Shortest first: a longer window can never allow less than a shorter one and still matter.
WINDOWS = ("day", "week", "month", "quarter", "year", "total")
WORDS = {
    "day": "per day",
    "week": "per week",
    "month": "per month",
    "quarter": "per quarter",
    "year": "per year",
    "total": "in total",
}
KINDS = {
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "rpd": "requests per day",
    "parallel": "parallel calls",
    "max_tokens": "output tokens per call",
    "keys": "API keys",
    "seats": "members",
}
# Of exactly one.
KINDS_ONE = {
    "rpm": "request per minute",
    "tpm": "token per minute",
    "rpd": "request per day",
    "parallel": "parallel call",
    "max_tokens": "output token per call",
    "keys": "API key",
    "seats": "member",
}
LISTS = {"models": "model", "providers": "provider", "addresses": "address", "members": "member"}


class Shape(NamedTuple):
    """A policy as it is judged: limits by kind and window, lists by kind, what it degrades to."""

    name: str
    limits: Mapping[tuple[str, str], int] = {}
    rules: Mapping[str, Sequence[str]] = {}
    degrade_model: str = ""


class Placed(NamedTuple):
    """A policy at a place; `node` is what people call the place."""

    shape: Shape
    node: str


def of_itself(shape: Shape, offered: Collection[OfferedModel] = ()) -> list[str]:
    return [
        *_nothing_allowed(shape),
        *_blocks_itself(shape, offered),
        *_longer_below_shorter(shape),
        *_unknown_names(shape, offered),
        *_more_than_a_model_writes(shape, offered),
        *_degrading(shape, offered),
    ]


def at_a_place(
    own: Placed, *, above: Iterable[Placed], below: Iterable[Placed], offered: Collection[OfferedModel] = ()
) -> list[str]:
    above = list(above)
    found = [warning for other in above for warning in _beyond(own, other)]
    found += [warning for other in below for warning in _beyond(other, own)]
    return [*found, *_nothing_shared(own, above, offered)]


def hidden_default(own: Placed, *, above: Iterable[Placed], below: Iterable[Placed], what: str) -> list[str]:
    """Defaults for `what` ("members", "keys") on groups above and below the group of this one: the nearest counts."""
    hides = [
        f"Below {own.node} it takes the place of the default “{other.shape.name}” of {other.node}:"
        f" {what} get those of the nearest group only."
        for other in above
    ]
    hidden = [
        f"It does not come to the {what} below {other.node}: the default “{other.shape.name}” there is nearer." for other in below
    ]
    return hides + hidden


def _nothing_allowed(shape: Shape) -> list[str]:
    stops = {"keys": "no API key can be made", "seats": "no member can be added"}
    return [
        f"{_limit(kind, window, value)}: {stops.get(kind, 'every call is refused')}."
        for (kind, window), value in shape.limits.items()
        if value == 0
    ]


def _blocks_itself(shape: Shape, offered: Collection[OfferedModel]) -> list[str]:
    """Nothing to say where the allowed models are merely not offered: those are named one by one."""
    if not any(shape.rules.get(kind) for kind in ("models", "blocked_models")):
        return []
    allowed = [model.name for model in offered if _listed(model.name, shape)]
    if not allowed or _usable([shape], offered):
        return []
    if shape.rules.get("models"):
        return ["It blocks every offered model that it allows: no model is left, so every call is refused."]
    return ["It blocks every model offered now: every call is refused."]


def _longer_below_shorter(shape: Shape) -> list[str]:
    budgets = [(window, shape.limits["budget", window]) for window in WINDOWS if ("budget", window) in shape.limits]
    return [
        f"{_limit('budget', short, much)} is more than {_limit('budget', long, little)}: only the latter can be reached."
        for index, (short, much) in enumerate(budgets)
        for long, little in budgets[index + 1 :]
        if much > little
    ]


def _unknown_names(shape: Shape, offered: Collection[OfferedModel]) -> list[str]:
    return [
        f"“{entry}” names {'no provider' if kind == 'providers' else 'no model'} that is offered now."
        for kind, entry in unknown_entries(shape.rules, offered)
    ]


def unknown_entries(rules: Mapping[str, Sequence[str]], offered: Collection[OfferedModel]) -> list[tuple[str, str]]:
    """(kind of list, entry) of what names nothing that is offered; where nothing is, nobody can tell."""
    if not offered:
        return []
    names = {
        "models": [model.name for model in offered],
        "blocked_models": [model.name for model in offered],
        "providers": [provider for model in offered for provider in model.providers],
    }
    return [
        (kind, entry)
        for kind, known in names.items()
        for entry in rules.get(kind, ())
        if not any(fnmatchcase(name.lower(), entry.lower()) for name in known)
    ]


def _more_than_a_model_writes(shape: Shape, offered: Collection[OfferedModel]) -> list[str]:
    bound = shape.limits.get(("max_tokens", "call"))
    most = [model.max_output_tokens for model in _usable([shape], offered)]
    known = [tokens for tokens in most if tokens is not None]
    if bound is None or not known or len(known) < len(most) or bound <= max(known):
        return []
    return [f"No model it allows writes more than {max(known):,} tokens: {bound:,} output tokens per call restrict nothing."]


def _degrading(shape: Shape, offered: Collection[OfferedModel]) -> list[str]:
    if not shape.degrade_model:
        return []
    if not any(kind == "budget" for kind, _ in shape.limits):
        return [f"It has no budget, so calls never go to {shape.degrade_model}."]
    if not _passes(shape.degrade_model, [shape]):
        return [f"It does not allow {shape.degrade_model} itself: near the limit calls are refused instead."]
    target = next((model for model in offered if model.name == shape.degrade_model), None)
    if target is None:
        return [f"{shape.degrade_model} is not offered now: near the limit calls are refused instead."] if offered else []
    if target.output_price is None:
        return [f"{shape.degrade_model} has no price: under a budget it cannot be called."]
    cheaper = [model.name for model in _usable([shape], offered) if _price(model) < _price(target)]
    if not cheaper:
        return []
    return [f"{shape.degrade_model} costs more than {_some(sorted(cheaper))}: near the limit such calls become dearer."]


def _beyond(lower: Placed, upper: Placed) -> list[str]:
    """Limits of the lower place that the upper one makes idle. Counts of keys and members are summed the same way."""
    return [
        f"{lower.node}: {_limit(*key, value)} is more than “{upper.shape.name}” allows all of {upper.node}"
        f" ({_limit(*key, upper.shape.limits[key])}), which is reached first."
        for key, value in lower.shape.limits.items()
        if key in upper.shape.limits and value > upper.shape.limits[key]
    ]


def _nothing_shared(own: Placed, above: list[Placed], offered: Collection[OfferedModel]) -> list[str]:
    placed = [own, *above]
    found = []
    for kind, word in LISTS.items():
        lists = [one.shape.rules[kind] for one in placed if one.shape.rules.get(kind)]
        if own.shape.rules.get(kind) and len(lists) > 1 and not _share(kind, lists):
            found.append(f"{own.node}: together with the policies above it no {word} is left.")
    shapes = [one.shape for one in placed]
    # What leaves nothing by itself does so everywhere: `of_itself` says it once.
    restricts = own.shape.rules.get("models") or own.shape.rules.get("blocked_models")
    if not found and restricts and _usable([own.shape], offered) and not _usable(shapes, offered):
        found.append(f"{own.node}: together with the policies above it none of the models offered now is left.")
    return found


def _share(kind: str, lists: list[Sequence[str]]) -> bool:
    if kind == "addresses":
        return patterns.shared_addresses(lists)
    if kind == "members":
        return bool(set(lists[0]).intersection(*lists[1:]))
    return patterns.shared(lists)


def _usable(shapes: Sequence[Shape], offered: Collection[OfferedModel]) -> list[OfferedModel]:
    return [model for model in offered if _passes(model.name, shapes)]


def _passes(model: str, shapes: Sequence[Shape]) -> bool:
    blocked = any(_named(model, shape.rules.get("blocked_models", ())) for shape in shapes)
    return not blocked and all(_listed(model, shape) for shape in shapes)


def _listed(model: str, shape: Shape) -> bool:
    """Among those it allows, blocked or not."""
    return not shape.rules.get("models") or _named(model, shape.rules["models"])


def _named(model: str, entries: Sequence[str]) -> bool:
    return any(fnmatchcase(model.lower(), entry.lower()) for entry in entries)


def _price(model: OfferedModel) -> tuple[int, int]:
    """For comparing: output first, which decides what most calls cost. What has no price is not cheaper."""
    if model.output_price is None:
        return (2**63, 0)
    return (model.output_price, model.input_price or 0)


def _limit(kind: str, window: str, value: int) -> str:
    if kind == "budget":
        return f"{limit_usd(value)} {WORDS[window]}"
    return f"{value:,} {(KINDS_ONE if value == 1 else KINDS)[kind]}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
