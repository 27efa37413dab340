from __future__ import annotations

from django import forms

from orgs.services.freezing import REASON_LENGTH


class FreezeForm(forms.Form):
    reason = forms.CharField(
        max_length=REASON_LENGTH,
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"}),
        help_text="Kept with the account, and in its audit trail.",
    )
