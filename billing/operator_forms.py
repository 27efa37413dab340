from __future__ import annotations

from typing import Any

from django import forms

from billing.topping_up import NOTE_LENGTH, REFERENCE_LENGTH
from gateway_project.lib.dollars import DollarField


class TopUpForm(forms.Form):
    amount = DollarField(label="Add", required=True)
    reference = forms.CharField(
        max_length=REFERENCE_LENGTH,
        help_text="Of the transfer, invoice or decision. The same one twice adds nothing.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Transfer 2026-114"}),
    )
    note = forms.CharField(max_length=NOTE_LENGTH, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def asked(self) -> dict[str, Any]:
        """For billing.topping_up."""
        found = self.cleaned_data
        return {"amount_nano_usd": found["amount"], "reference": found["reference"], "note": found["note"]}
