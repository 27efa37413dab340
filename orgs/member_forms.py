"""The forms of members: where one moves to, and what is done with several."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from gateway_project.lib.queries import ids_in
from orgs.actor import Actor
from orgs.group_fields import GroupField
from orgs.models import Group
from orgs.permissions import Permission
from orgs.selectors import open_tree

ACTIONS = {"suspend": "Suspend", "resume": "Resume", "move": "Move", "remove": "Remove"}
MOST_AT_ONCE = 100


def member_homes(actor: Actor) -> list[Group]:
    """Groups the actor may put members in."""
    scope = {group.pk for group in actor.scope(Permission.MANAGE_MEMBERS)}
    return [group for group in open_tree(actor, Permission.MANAGE_MEMBERS) if scope.intersection(group.lineage())]


class MoveForm(forms.Form):
    keep_roles = forms.BooleanField(
        required=False, label="Keep the roles at the old group", help_text="Left empty, roles at the old group and below end."
    )

    def __init__(self, data: Any = None, *, actor: Actor, chosen: Any = None) -> None:
        super().__init__(data, initial={"group": chosen})
        self.fields = {
            "group": GroupField(member_homes(actor), empty_label="Choose a group", label="New group"),
            **self.fields,
        }

    @property
    def group(self) -> Group:
        group: Group = self.cleaned_data["group"]
        return group


class BulkForm(forms.Form):
    """Several people at once. `action` is one of ACTIONS, `person` their ids; `confirmed` once what is lost was read."""

    action = forms.ChoiceField(choices=list(ACTIONS.items()))
    confirmed = forms.BooleanField(required=False)

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data)
        self.people = ids_in(data.getlist("person"), most=MOST_AT_ONCE)
