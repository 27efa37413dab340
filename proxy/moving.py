"""What moving a group changes for the names it may call, and for whose provider keys its calls are made with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db.models import CharField, F, QuerySet, Value
from django.db.models.functions import Coalesce, Concat

from orgs.actor import Actor
from orgs.consequences import Consequence
from orgs.models import Group, Organization
from proxy.models import Alias, Preset, ProviderKey
from proxy.names import PRESET


class Given(NamedTuple):
    """What a group gives to the keys at and below it. Of two with one `name` (and what it is) the nearest counts."""

    what: str
    group_id: int
    name: str
    text: str

    @property
    def place(self) -> tuple[str, str]:
        return self.what, self.name.lower()


def changes_of_move(group: Group, to: Group, by: Actor) -> list[Consequence]:
    """One statement. It tells no figures, so it is the same to whoever may move the group."""
    old, new = group.path(), [*to.path(), group]
    names = {node.pk: node.name for node in [*old, *new]}
    given = _given(group.organization, names)
    before, after = _nearest(given, old), _nearest(given, new)
    found = []
    for place in sorted({*before, *after}):
        was, will_be = before.get(place), after.get(place)
        if was != will_be:
            found += [Consequence("ended", _ended(was, names, replaced=will_be is not None))] if was else []
            found += [Consequence("now", _begun(will_be, names))] if will_be else []
    return found


def _given(organization: Organization, groups: Iterable[int]) -> list[Given]:
    here = {"organization": organization, "group__in": list(groups)}
    presets = _rows(Preset.objects.filter(**here, archived_at=None), "preset", name="name", text="model")
    keys = ProviderKey.objects.filter(**here, enabled=True)
    by_provider = keys.annotate(made_for=Coalesce("provider__name", Concat(Value("any "), F("kind")), output_field=CharField()))
    return [
        Given(*row)
        for row in _rows(Alias.objects.filter(**here), "alias", name="name", text="model").union(
            presets, _rows(by_provider, "provider key", name="made_for", text="name"), all=True
        )
    ]


def _rows(found: QuerySet, what: str, *, name: str, text: str) -> QuerySet:  # type: ignore[type-arg]
    """The columns of Given, whatever the table calls them."""
    return found.order_by().values_list(Value(what), "group_id", name, text)


def _nearest(given: Iterable[Given], path: Sequence[Group]) -> dict[tuple[str, str], Given]:
    at = {group.pk: level for level, group in enumerate(path)}
    here = sorted((one for one in given if one.group_id in at), key=lambda one: at[one.group_id])
    return {one.place: one for one in here}


def _begun(one: Given, groups: dict[int, str]) -> str:
    where = groups[one.group_id]
    if one.what == "provider key":
        return f"Provider key “{one.text}” of {where}: calls to {one.name} are made with it, and not charged to the credit pool."
    return f"{_called(one)} of {where}: {one.text}"


def _ended(one: Given, groups: dict[int, str], *, replaced: bool) -> str:
    where = groups[one.group_id]
    if one.what == "provider key":
        then = "" if replaced else f" Where no other fits, calls to {one.name} are charged to the credit pool."
        return f"Provider key “{one.text}” of {where}.{then}"
    then = "" if replaced else ". Calls that name it are refused."
    return f"{_called(one)} of {where}: {one.text}{then}"


def _called(one: Given) -> str:
    return f"The alias “{one.name}”" if one.what == "alias" else f"The preset “{PRESET}{one.name}”"
