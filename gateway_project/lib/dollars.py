"""Amounts of money that people type into forms."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from gateway_project.lib.money import MOST_NANO_USD, BadAmount, parse_usd

GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")


class DollarField(forms.CharField):
    """Dollars as people type them ("25", "$1,000.50", "0.01") → nano-dollars; None where nothing is typed.

    `nothing`: the words for an amount that is not above zero.
    """

    def __init__(self, *, nothing: str = "Give more than zero.", required: bool = False, **options: Any) -> None:
        super().__init__(required=required, max_length=30, **options)
        self.nothing = nothing
        self.widget.attrs.update({"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> Any:
        text = super().clean(value).removeprefix("$").strip()
        if not text:
            return None
        if GROUPED.fullmatch(text):
            text = text.replace(",", "")
        try:
            amount = parse_usd(text if re.fullmatch(r"-?[\d.]+", text) else f"{text} dollars")
        except BadAmount as error:
            raise forms.ValidationError(self._why(text)) from error
        if amount > MOST_NANO_USD:
            raise forms.ValidationError(self._why("0"))
        if amount <= 0:
            raise forms.ValidationError(self.nothing)
        return amount

    @staticmethod
    def _why(text: str) -> str:
        if "," in text:
            return "Write the decimals after a point: 12.50"
        if re.fullmatch(r"-?\d*\.?\d*", text):
            return "At most $4,000,000,000, with at most nine decimals."
        return "Give an amount in US dollars, such as 25 or 0.50"
