"""The forms of own provider keys. The key is typed and never shown: not even after a refusal."""

from __future__ import annotations

from django import forms
from django.http import QueryDict

from gateway_project.lib.filled import Filled
from orgs.actor import Actor
from orgs.group_fields import PathField, offer
from orgs.permissions import Permission
from orgs.selectors import open_tree
from orgs.services.changes import NAME_LENGTH
from proxy.models import ProviderKey
from proxy.provider_keys import MOST_SECRET, MOST_URL, Place, places

ATTRIBUTES = {"autocomplete": "off", "spellcheck": "false", "class": "gh-mono", "rows": 2}
HIDDEN = {**ATTRIBUTES, "class": "gh-mono gh-masked"}  # while nobody types
ADDRESS_HELP = "Of your own resource or server. Left empty: the address that this gateway has for the provider."


class SecretField(forms.CharField):
    """A text area: some providers' keys are JSON files. What was typed is not written into the page again."""

    def __init__(self, *, required: bool, help_text: str = "", placeholder: str = "") -> None:
        widget = forms.Textarea(attrs={**HIDDEN, "placeholder": placeholder})
        super().__init__(label="Key", required=required, help_text=help_text, max_length=MOST_SECRET, widget=widget, strip=True)

    def bound_data(self, data: object, initial: object) -> object:
        return ""


def url_field(help_text: str = ADDRESS_HELP) -> forms.CharField:
    widget = forms.TextInput(attrs={"placeholder": "https://…", "autocomplete": "off", "inputmode": "url", "class": "gh-mono"})
    return forms.CharField(label="Base URL", required=False, max_length=MOST_URL, help_text=help_text, widget=widget)


def _fallback_field() -> forms.BooleanField:
    return forms.BooleanField(
        label="Where calls with it fail, go on with the gateway's own key",
        required=False,
        help_text="Those calls are charged to the credit pool. Off: they fail.",
    )


class ProviderKeyForm(forms.Form):
    place = forms.ChoiceField(label="Provider", help_text="Every provider of that kind, or a single one.")
    group = PathField(
        queryset=None, label="For", empty_label=None, help_text="Calls of everything below. The nearest key counts."
    )
    name = forms.CharField(max_length=NAME_LENGTH, widget=forms.TextInput(attrs={"placeholder": "Whose account it is"}))
    secret = SecretField(required=True, help_text="Kept encrypted, and never shown again.")
    base_url = url_field()
    falls_back = _fallback_field()

    def __init__(self, data: QueryDict | None = None, *, actor: Actor) -> None:
        super().__init__(data)
        self.places = {_token(place): place for place in places()}
        kinds = [(token, place.title) for token, place in self.places.items() if place.provider is None]
        single = [(token, place.title) for token, place in self.places.items() if place.provider is not None]
        choices = [*kinds, ("A single provider", single)] if kinds and single else [*kinds, *single]
        self.fields["place"].choices = choices  # type: ignore[attr-defined]
        offer(self.fields["group"], open_tree(actor, Permission.MANAGE_PROVIDER_KEYS))
        if not any(place.takes_url for place in self.places.values()):
            del self.fields["base_url"]

    @property
    def place_chosen(self) -> Place:
        return self.places[self.cleaned_data["place"]]


class ChangeForm(Filled):
    name = forms.CharField(max_length=NAME_LENGTH)
    secret = SecretField(required=False, help_text="Left empty, the key stays as it is.", placeholder="unchanged")
    base_url = url_field()
    falls_back = _fallback_field()

    def __init__(self, data: QueryDict | None = None, *, key: ProviderKey) -> None:
        super().__init__(data, there={"name": key.name, "base_url": key.base_url, "falls_back": key.falls_back})
        if not Place(key.kind, key.provider).takes_url:
            del self.fields["base_url"]


def _token(place: Place) -> str:
    return place.kind if place.provider is None else f"{place.kind}:{place.provider.pk}"
