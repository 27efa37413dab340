"""A group as a field of a form: what another organisation or an admin beside has is no choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from orgs.actor import ABOVE
from orgs.models import Group

INDENT = "\u2003"


class GroupField(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """By the words of its path, of those that are offered: loaded once, however often the field is asked."""

    def __init__(self, groups: Sequence[Group], **options: Any) -> None:
        offered = Group.objects.filter(pk__in=[group.pk for group in groups])
        super().__init__(offered.select_related("organization", ABOVE), **options)
        empty = [] if self.empty_label is None else [("", self.empty_label)]
        self.choices = [*empty, *((group.pk, group.words()) for group in groups)]

    def label_from_instance(self, obj: Any) -> str:
        words: str = obj.words()
        return words


class PathField(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """By its whole path, the organisation's name first."""

    def label_from_instance(self, obj: Any) -> str:
        return " / ".join(node.name for node in obj.path())


class IndentedField(forms.ModelChoiceField):  # type: ignore[type-arg]  # not subscriptable at run time
    """By its name, deeper ones further in: for all groups of a tree in its order."""

    def label_from_instance(self, obj: Any) -> str:
        return indented(obj)


def indented(group: Group, top: int = 0) -> str:
    return INDENT * max(group.level - top, 0) + group.name


def offer(field: forms.Field, groups: Sequence[Group]) -> None:
    """The choices of a field that a class declares, for the actor of one form: groups with their paths, read once."""
    if isinstance(field, forms.ModelChoiceField):
        field.queryset = Group.objects.filter(pk__in=[group.pk for group in groups]).select_related(ABOVE)
        empty = [] if field.empty_label is None else [("", field.empty_label)]
        field.choices = [*empty, *((group.pk, field.label_from_instance(group)) for group in groups)]
