"""The form of "which route would win?"."""

from __future__ import annotations

from django import forms

MOST_CHARACTERS = 400_000


class RouteForm(forms.Form):
    model = forms.CharField(
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"list": "offered-models", "autocomplete": "off", "spellcheck": "false"}),
        help_text="A model, an alias, preset:NAME or auto. Empty: the one that the request names.",
    )
    body = forms.CharField(
        label="Request",
        max_length=MOST_CHARACTERS,
        widget=forms.Textarea(
            attrs={"rows": 12, "spellcheck": "false", "placeholder": "A prompt, or the JSON body of a chat completion"}
        ),
        help_text="It is judged and forgotten: not sent, not stored, not logged.",
    )
