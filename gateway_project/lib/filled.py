"""Forms that are filled from what is there, and never undo what somebody else has changed meanwhile.

The page carries a short digest of every value that it was filled with (components/form_errors.html). Where one differs from
what is there when the form comes back, nothing is saved: the form says what is there now, keeps what was typed, and carries
the digests of now, so that saving again works. The view reads, compares and saves under one lock: `orgs.answers.alone`.
A form that is sent without digests, as a script sends it, is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.db.models import Model

# Of a value, in the sentence that says what is there now.
MOST_SHOWN = 120


class Filled(forms.Form):
    """`there`: what is there, by field; names that are no field are values that the page shows beside the fields. Empty in a
    form that makes something new."""

    def __init__(self, data: Any = None, *, there: Mapping[str, Any] | None = None) -> None:
        self.there = dict(there or {})
        super().__init__(data, initial=dict(self.there))

    @property
    def as_of(self) -> str:
        """The digests of what is there, in the order of their names."""
        return ".".join(_digest(self.there[name]) for name in sorted(self.there))

    @property
    def overtaken(self) -> list[str]:
        """Names of what is no longer as it was when the form was opened, and would not stay as it is now."""
        names, now = sorted(self.there), self.as_of.split(".")
        sent = str(self.data.get("as_of") or self.as_of).split(".")
        return [name for at, name in enumerate(names) if now[at : at + 1] != sent[at : at + 1] and self.changes(name)]

    def changes(self, name: str) -> bool:
        """Whether what was sent is other than what is there: whoever presses a button twice changes nothing the second time."""
        field = self.fields.get(name)
        return field is None or (not field.disabled and field.has_changed(self.there[name], self[name].data))

    def full_clean(self) -> None:
        super().full_clean()
        if self.is_bound and (names := self.overtaken):
            said = "; ".join(f"{self._label(name)}: {self._words(name)}" for name in names)
            self.add_error(
                None,
                f"Somebody has changed this since you opened it. It now says {said}. Nothing was saved. "
                "What you typed is still here: saving again puts it in the place of that.",
            )

    def _label(self, name: str) -> str:
        return str(self[name].label if name in self.fields else name.replace("_", " ").capitalize())

    def _words(self, name: str) -> str:
        value = self.there[name]
        if isinstance(value, bool):
            return "on" if value else "off"
        labels = dict(_flat(getattr(self.fields.get(name), "choices", ())))
        values = value if isinstance(value, list | tuple) else [value]
        found = [str(labels.get(str(one.pk if isinstance(one, Model) else one), one)).strip() for one in values]
        words = ", ".join(" ".join(one.split()) for one in found if one not in ("", "None")) or "nothing"
        return words if len(words) <= MOST_SHOWN else f"{words[:MOST_SHOWN]}…"


def _digest(value: Any) -> str:
    text = json.dumps(value, default=lambda one: one.pk if isinstance(one, Model) else str(one))
    return hashlib.blake2s(text.encode(), digest_size=5).hexdigest()


def _flat(choices: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """Choices by the text of their value, those in groups, too; what stands for nothing stays nothing."""
    for value, label in choices:
        if isinstance(label, list | tuple):
            yield from _flat(label)
        elif str(value):
            yield str(value), str(label)
