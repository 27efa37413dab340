"""The forms of aliases and presets, and of what `auto` chooses: what was typed stays when the services refuse it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from gateway_project.lib.filled import Filled
from orgs.actor import Actor
from orgs.models import Group
from proxy.canonical.preset import Parameters
from proxy.models import Preset
from proxy.named import homes_of_names
from proxy.naming_services import EFFORTS, MOST_DESCRIPTION, MOST_PROMPT, PresetWords

MODEL = {"list": "offered-models", "autocomplete": "off", "spellcheck": "false"}


class GroupField(forms.TypedChoiceField):
    """One of the groups in which the actor may give names; those deeper stand further in."""

    def __init__(self, groups: list[Group], **options: Any) -> None:
        self._by_id = {str(group.pk): group for group in groups}
        top = min((group.level for group in groups), default=0)
        choices = [(pk, "\u2003" * (group.level - top) + group.name) for pk, group in self._by_id.items()]
        super().__init__(choices=choices, coerce=self._by_id.get, **options)


class AliasForm(forms.Form):
    """`shown`: the alias that is changed, whose name and group stay."""

    name = forms.CharField(
        max_length=80,
        help_text="What programs call it, such as our-best",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    model = forms.CharField(
        max_length=200, widget=forms.TextInput(attrs=MODEL), help_text="A model, auto, auto:cheap or auto:best"
    )

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, **options: Any) -> None:
        super().__init__(data, **options)
        self.fields["group"] = GroupField(
            homes_of_names(actor), label="For", help_text="Keys in this group and below; of two with one name the nearest counts."
        )


class TargetForm(Filled):
    model = AliasForm.base_fields["model"]


class PresetForm(Filled):
    """Of a preset that is changed name and group stay: without them in the form."""

    name = forms.CharField(
        max_length=60,
        help_text="Programs ask for preset:NAME",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    description = forms.CharField(max_length=MOST_DESCRIPTION, required=False, help_text="What it is good for")
    model = forms.CharField(
        max_length=200, widget=forms.TextInput(attrs=MODEL), help_text="A model, an alias, auto, auto:cheap or auto:best"
    )
    system_prompt = forms.CharField(
        required=False,
        max_length=MOST_PROMPT,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="Comes before any system prompt of the caller. Whoever may use the preset may read it.",
    )
    temperature = forms.FloatField(required=False, min_value=0, max_value=2, widget=forms.NumberInput(attrs={"step": "0.05"}))
    top_p = forms.FloatField(label="Top p", required=False, max_value=1, widget=forms.NumberInput(attrs={"step": "0.05"}))
    max_tokens = forms.IntegerField(label="Max output tokens", required=False, min_value=1)
    reasoning_effort = forms.ChoiceField(
        label="Reasoning effort", required=False, choices=[("", "As the model does"), *((one, one) for one in EFFORTS)]
    )
    stop = forms.CharField(
        label="Stop at",
        required=False,
        strip=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="One per line, at most four. What a caller says itself always counts more than all of these.",
    )

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, preset: Preset | None = None) -> None:
        super().__init__(data, there=None if preset is None else _said_of(preset))
        if preset is None:
            self.fields["group"] = GroupField(
                homes_of_names(actor), label="Shared with", help_text="Keys in this group and below."
            )
        else:
            del self.fields["name"]

    @property
    def words(self) -> PresetWords:
        typed: dict[str, Any] = self.cleaned_data
        lines = typed["stop"].replace("\r\n", "\n").split("\n")
        parameters = Parameters(
            temperature=typed["temperature"],
            top_p=typed["top_p"],
            max_tokens=typed["max_tokens"],
            reasoning_effort=typed["reasoning_effort"] or None,
            stop=tuple(line for line in lines if line.strip()),
        )
        return PresetWords(typed["model"], typed["description"], typed["system_prompt"], parameters)


def _said_of(preset: Preset) -> dict[str, Any]:
    parameters: dict[str, Any] = dict.fromkeys(Parameters.__struct_fields__) | dict(preset.parameters)
    parameters["stop"] = "\n".join(parameters["stop"] or ())
    words = {name: getattr(preset, name) for name in ("description", "model", "system_prompt")}
    return words | parameters
