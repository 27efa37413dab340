from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone

from orgs.tokens import READ_ONLY, RESOURCES, WHOLE, label

DAYS = {7: "7 days", 30: "30 days", 90: "90 days", 365: "a year"}


WHOLE_WORDS = {"read": "Read everything", "write": "Read and change everything", "": "Only what is chosen below"}


class TokenForm(forms.Form):
    """What a token may be used for: of each resource nothing, reading, or writing too. `whole`: the same of all; then what is
    ticked does not count."""

    name = forms.CharField(max_length=120, help_text="What it is for: a script, a pipeline.")
    days = forms.TypedChoiceField(label="It works for", choices=list(DAYS.items()), coerce=int, initial=30)
    whole = forms.ChoiceField(label="What it may do", choices=list(WHOLE_WORDS.items()), widget=forms.RadioSelect, required=False)
    read = forms.MultipleChoiceField(
        label="It may read",
        choices=[(name, label(name)) for name in RESOURCES],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
    write = forms.MultipleChoiceField(
        label="It may read and change",
        choices=[(name, label(name)) for name in RESOURCES if name not in READ_ONLY],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )

    @property
    def scopes(self) -> list[str]:
        if whole := self.cleaned_data["whole"]:
            return sorted(WHOLE[whole])
        return [f"{name}:{access}" for access in ("read", "write") for name in self.cleaned_data[access]]

    @property
    def expires_at(self) -> datetime:
        return timezone.now() + timedelta(days=self.cleaned_data["days"])
