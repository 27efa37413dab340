"""Forms of groups and applications."""

from __future__ import annotations

from typing import Any

from django import forms

from gateway_project.lib.filled import Filled
from orgs.actor import Actor
from orgs.group_fields import IndentedField, indented
from orgs.models import MAX_LEVEL, Application, Group, User
from orgs.permissions import Permission
from orgs.selectors import open_tree
from orgs.services.changes import COST_CENTER_LENGTH, KIND_LENGTH, NAME_LENGTH
from orgs.tree import MOST_PEOPLE, open_to, people_seen

KINDS = ("Department", "Division", "Team", "Project", "Region", "Customer", "Cost centre")


class OwnerField(forms.CharField):
    """A member by e-mail address, among those the actor sees; the one set already stays valid."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"list": "people", "autocomplete": "off", "inputmode": "email"})
        super().__init__(required=False, max_length=254, widget=widget, help_text="E-mail of whoever answers for it.", **options)
        self.actor: Actor | None = None
        self.owner: User | None = None

    def clean(self, value: Any) -> User | None:
        typed = super().clean(value).lower()
        if not typed or (self.owner is not None and typed == self.owner.email):
            return self.owner if typed else None
        found: User | None = people_seen(self.actor).filter(email=typed).first() if self.actor else None
        if found is None:
            raise forms.ValidationError("No active member that you see has this address.")
        return found


class Owned(Filled):
    """What groups and applications have in common."""

    name = forms.CharField(max_length=NAME_LENGTH, widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"}))
    cost_center = forms.CharField(
        label="Cost centre", required=False, max_length=COST_CENTER_LENGTH, help_text="As your accounting knows it."
    )
    owner = OwnerField()

    def __init__(self, data: Any = None, *, actor: Actor, about: Group | Application | None = None) -> None:
        super().__init__(data, there=self.said_of(about) if about is not None else None)
        self.actor = actor
        owner = self.fields["owner"]
        if isinstance(owner, OwnerField):
            owner.actor, owner.owner = actor, about.owner if about else None

    def said_of(self, about: Any) -> dict[str, Any]:
        return {"name": about.name, "cost_center": about.cost_center, "owner": about.owner.email if about.owner else ""}

    @property
    def people(self) -> list[User]:
        """To suggest as owners."""
        return list(people_seen(self.actor)[:MOST_PEOPLE])


class GroupForm(Owned):
    kind = forms.CharField(
        required=False,
        max_length=KIND_LENGTH,
        widget=forms.TextInput(attrs={"list": "kinds", "autocomplete": "off"}),
        help_text="Department, team, project … your own word.",
    )

    def __init__(self, data: Any = None, *, actor: Actor, about: Group | None = None) -> None:
        super().__init__(data, actor=actor, about=about)
        if about is not None and about.parent is None:
            del self.fields["name"]

    def said_of(self, about: Group) -> dict[str, Any]:
        """The root bears the organisation's name, which stands in the settings."""
        said = super().said_of(about) | {"kind": about.kind}
        return said if about.parent else {name: value for name, value in said.items() if name != "name"}


class NewGroupForm(GroupForm):
    """`parent`: one on the last level is valid here, so that the service can say why it is refused."""

    parent = IndentedField(queryset=None, label="Below", empty_label=None)

    def __init__(self, data: Any = None, *, actor: Actor, parent: Group | None = None) -> None:
        super().__init__(data, actor=actor)
        field, groups = self.fields["parent"], open_to(actor)
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = Group.objects.filter(pk__in=[group.pk for group in groups])
            top = min((group.level for group in groups), default=0)
            field.choices = [(group.pk, indented(group, top)) for group in groups if group.level < MAX_LEVEL]
        if parent is not None:
            self.initial["parent"] = parent.pk


class ApplicationForm(Owned):
    """Features and environments are typed one after the other, separated by commas or spaces."""

    group = IndentedField(queryset=None, empty_label=None, help_text="Keys of this group and below can name it.")
    features = forms.CharField(required=False, help_text="For example: chat, search. Calls can be told apart by them.")
    environments = forms.CharField(required=False, help_text="For example: production, staging.")

    def __init__(self, data: Any = None, *, actor: Actor, about: Application | None = None, group: str = "") -> None:
        super().__init__(data, actor=actor, about=about)
        field = self.fields["group"]
        if isinstance(field, forms.ModelChoiceField):
            homes = open_tree(actor, Permission.MANAGE_APPLICATIONS)
            groups = [one for one in homes if actor.can(Permission.MANAGE_APPLICATIONS, one)]
            field.queryset = Group.objects.filter(pk__in=[one.pk for one in groups] + ([about.group_id] if about else []))
            top = min((one.level for one in groups), default=0)
            field.choices = [(one.pk, indented(one, top)) for one in groups]
            if about and about.group_id not in {one.pk for one in groups}:
                field.choices = [(about.group_id, about.group.name), *field.choices]
        if about is None:
            self.initial["group"] = group

    def said_of(self, about: Application) -> dict[str, Any]:
        labels = {"features": ", ".join(about.features), "environments": ", ".join(about.environments)}
        return super().said_of(about) | labels | {"group": about.group}

    def clean_features(self) -> list[str]:
        return _words(self.cleaned_data["features"])

    def clean_environments(self) -> list[str]:
        return _words(self.cleaned_data["environments"])


def _words(typed: str) -> list[str]:
    return typed.replace(",", " ").split()
