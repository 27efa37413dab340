"""The operator's forms of the catalogue."""

from __future__ import annotations

from typing import Any

import yaml
from django import forms

from proxy import catalogue_file, shipped
from proxy.catalogue_values import BadValue
from proxy.provider_key_forms import ATTRIBUTES, SecretField, url_field
from proxy.providers import registry

MOST_NAME, MOST_OPTIONS, MOST_FILE = 60, 2_000, 1_000_000
OWN = "sandbox"
WRITTEN = "Write each as a name, a colon and what it is: region: eu-central-1"


class ProviderForm(forms.Form):
    kind = forms.ChoiceField(label="Kind", help_text="Whose API it speaks.")
    name = forms.SlugField(
        max_length=MOST_NAME,
        help_text="What it is called in routes, reports and files.",
        widget=forms.TextInput(attrs={"placeholder": "openai-main", "autocomplete": "off", "spellcheck": "false"}),
    )
    secret = SecretField(required=False, help_text="Kept encrypted, and never shown again.")
    base_url = url_field("Left empty: the kind's own address. Your own servers and resources have one of theirs.")
    options = forms.CharField(
        required=False,
        max_length=MOST_OPTIONS,
        help_text="Where the kind needs them, a line each: region (Bedrock, Vertex AI), project, api_version (Azure).",
        widget=forms.Textarea(attrs={**ATTRIBUTES, "placeholder": "region: eu-central-1"}),
    )
    offers = forms.BooleanField(
        label="Offer the models that this version knows of it",
        required=False,
        initial=True,
        help_text="With their context windows, capabilities and list prices. Others can be declared in a catalogue file.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = shipped.kinds()
        titles = sorted(
            ((one.title, kind) for kind, one in registry.PROVIDERS.items() if kind != OWN), key=lambda one: one[0].lower()
        )
        known, others = ([(kind, title) for title, kind in titles if (kind in offered) == wanted] for wanted in (True, False))
        self.fields["kind"].choices = [("", "Choose one"), ("With models known here", known), ("Others", others)]  # type: ignore[attr-defined]

    def clean_options(self) -> dict[str, Any]:
        try:
            return catalogue_file.options(self.cleaned_data["options"])
        except (yaml.YAMLError, RecursionError) as error:
            raise forms.ValidationError(WRITTEN) from error
        except BadValue as reason:
            raise forms.ValidationError(f"{WRITTEN}. It {reason}.") from reason

    def declared(self) -> dict[str, Any]:
        """As a catalogue file says it."""
        given = self.cleaned_data
        found = {"name": given["name"], "kind": given["kind"], "base_url": given["base_url"], "api_key": given["secret"]}
        return {name: value for name, value in {**found, "options": given["options"]}.items() if value}


class CatalogueForm(forms.Form):
    text = forms.CharField(
        label="Catalogue file",
        max_length=MOST_FILE,
        strip=False,
        widget=forms.Textarea(attrs={"class": "gh-mono", "rows": 22, "spellcheck": "false", "autocomplete": "off"}),
    )
