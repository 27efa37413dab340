"""The forms of requests: asking for a model, and answering."""

from __future__ import annotations

from collections.abc import Iterable

from django import forms
from django.http import QueryDict

from guardrails.new_models import NewModel
from guardrails.requests import WORDS
from orgs.actor import Actor
from orgs.group_fields import PathField, offer
from orgs.models import Group
from orgs.permissions import Permission
from orgs.selectors import open_tree


class AskForm(forms.Form):
    """Groups are those the actor may make keys in."""

    model = forms.ChoiceField()
    group = PathField(queryset=None, label="For", empty_label=None, help_text="An approval reaches everything below it.")
    reason = forms.CharField(
        required=False, max_length=WORDS, widget=forms.Textarea(attrs={"rows": 3, "placeholder": "What it is needed for"})
    )

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, models: Iterable[NewModel], chosen: str = "") -> None:
        super().__init__(data)
        offer(self.fields["group"], open_tree(actor, Permission.MANAGE_KEYS))
        self.fields["model"].choices = [("", "Choose a model"), *((one.name, one.name) for one in models)]  # type: ignore[attr-defined]
        own = [membership.group for membership in actor.memberships]
        self.initial.update(model=chosen, group=own[0] if own else None)


class ApproveForm(forms.Form):
    """For the group that asked, or a wider one: `nodes`, that group first."""

    group = PathField(queryset=None, label="Approve for", empty_label=None, help_text="It reaches everything below.")
    answer = forms.CharField(required=False, max_length=WORDS, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, data: QueryDict | None = None, *, nodes: list[Group]) -> None:
        super().__init__(data)
        offer(self.fields["group"], nodes)
        self.initial["group"] = nodes[0].pk if nodes else None


class AnswerForm(forms.Form):
    answer = forms.CharField(required=False, max_length=WORDS, widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}))


class DirectForm(forms.Form):
    """An approval nobody asked for."""

    model = forms.CharField(max_length=200, widget=forms.HiddenInput)
    group = PathField(queryset=None, label="Approve for", empty_label=None, help_text="It reaches everything below.")

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, chosen: str = "") -> None:
        super().__init__(data)
        offer(self.fields["group"], open_tree(actor, Permission.MANAGE_GUARDRAILS))
        self.initial["model"] = chosen
