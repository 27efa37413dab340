"""All that is wrong with one thing of a file, though a service ends at the first of it: what it refuses is left out, and the rest
asked again. What is made so is never kept, since a file with a fault is applied in no part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import NODEFAULT, UNSET

from guardrails.as_code.declarations import Declared
from orgs.errors import Refused

D = TypeVar("D", bound=Declared)
# Refusals that are about two fields name the one; where that is away already, the other is what is left of it.
TOGETHER = {
    "degrade_model": "degrade_percent",
    "degrade_percent": "degrade_model",
    "zdr_only": "content_retention_hours",
    "content_retention_hours": "zdr_only",
}


class Follows(Refused):
    """It needs something else of the file that is wrong itself: nothing to tell beside that."""


class Several(Refused):
    """At least one."""

    def __init__(self, each: Iterable[Refused]) -> None:
        self.each = list(each)
        super().__init__(self.each[0].message, field=self.each[0].field)


def all_of(*asked: Callable[[], Any]) -> list[Any]:
    """What each of them gives. Raises Several of what they raise."""
    found, refused = [], []
    for one in asked:
        try:
            found.append(one())
        except Refused as refusal:
            refused.append(refusal)
    if refused:
        raise Several(refused)
    return found


@dataclass
class Remains(Generic[D]):
    """What of a thing nothing is said against yet; `left` is None where that is nothing that could be asked again.
    `named` stands in for a name that is refused."""

    left: D | None
    named: str
    told: set[str] = field(default_factory=set)

    def is_new(self, place: str) -> bool:
        """Not what is missing only because it was left out."""
        return place not in self.told and (_base(place) not in self.told or bool(_at(self.left, place)))

    def leave_out(self, places: Iterable[str]) -> None:
        places = list(places)
        self.told |= {*places, *map(_base, places)}
        before, self.left = self.left, self._without(self.left, places)
        if self.left == before:
            self.left = self._without(before, [TOGETHER[place] for place in places if place in TOGETHER])
        if self.left == before:
            self.left = None

    def _without(self, left: D | None, places: Iterable[str]) -> D | None:
        # From the end of a list on, so that the places before stay what they are.
        for place in sorted(places, key=_index, reverse=True):
            left = left and _without(left, place, self.named)
        return left


def _without(declared: D, place: str, named: str) -> D | None:
    """None where nobody knows which it is without that."""
    name, _, inner = place.partition(".")
    value = getattr(declared, _base(name), UNSET)
    if inner and isinstance(value, Declared):
        return msgspec.structs.replace(declared, **{name: _without(value, inner, named) or UNSET})
    if name != _base(name) and isinstance(value, list):
        index = _index(name)
        return msgspec.structs.replace(declared, **{_base(name): value[:index] + value[index + 1 :]})
    defaults = {one.name: named if one.name == "name" else _default(one) for one in msgspec.structs.fields(declared)}
    if name in declared.NAMED_BY or defaults.get(name, NODEFAULT) is NODEFAULT:
        return None
    return msgspec.structs.replace(declared, **{name: defaults[name]})


def _default(one: msgspec.structs.FieldInfo) -> Any:
    return one.default if one.default_factory is NODEFAULT else one.default_factory()


def _at(declared: Any, place: str) -> Any:
    for name in _base(place).split("."):
        declared = getattr(declared, name, UNSET)
    return declared


def _base(place: str) -> str:
    """Of an entry's place its list's."""
    return re.sub(r"\[\d+\]$", "", place)


def _index(place: str) -> int:
    found = re.search(r"\[(\d+)\]$", place)
    return int(found[1]) if found else -1
