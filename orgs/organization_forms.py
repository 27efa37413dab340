from __future__ import annotations

from django import forms

from orgs.errors import Refused
from orgs.services.changes import NAME_LENGTH, clean_time_zone
from orgs.services.organizations import SLUG_LENGTH


class NewOrganizationForm(forms.Form):
    name = forms.CharField(
        max_length=NAME_LENGTH, widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "organization"})
    )
    slug = forms.CharField(
        label="Address",
        required=False,
        max_length=SLUG_LENGTH,
        help_text="Every page lies below it, and it stays. Left empty, it is made of the name.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    time_zone = forms.CharField(
        max_length=64,
        initial="UTC",
        help_text="Type a city or a region. Budgets begin anew by its clock.",
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off", "spellcheck": "false"}),
    )

    def clean_time_zone(self) -> str:
        try:
            return clean_time_zone(self.cleaned_data["time_zone"])
        except Refused as refused:
            raise forms.ValidationError(refused.message) from refused
