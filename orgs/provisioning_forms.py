from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from gateway_project.lib.filled import Filled
from orgs.actor import Actor
from orgs.group_fields import IndentedField, offer
from orgs.models import Group
from orgs.permissions import Permission
from orgs.role_forms import role_words, roles_by_token
from orgs.scim_models import DirectoryGroup, Provisioning
from orgs.selectors import open_tree


class TokenForm(Filled):
    """Of whom the directory makes everybody a member."""

    group = IndentedField(
        queryset=None,
        label="Everybody becomes a member of",
        empty_label=None,
        help_text="It counts for who comes from now on.",
    )

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, row: Provisioning | None = None) -> None:
        super().__init__(data, there={"group": row.group} if row else {})
        offer(self.fields["group"], _open_groups(actor))


class LinkForm(Filled):
    group = IndentedField(queryset=None, label="Members of", empty_label="Nothing", required=False)
    role = forms.ChoiceField(required=False, help_text="A role reaches the group and everything below it.")

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, row: DirectoryGroup) -> None:
        role = f"role-{row.custom_role_id}" if row.custom_role_id else row.role
        super().__init__(data, there={"group": row.group, "role": role})
        offer(self.fields["group"], _open_groups(actor))
        self.roles = roles_by_token(actor)
        choices = [("", "No role"), *((token, role_words(role)) for token, role in self.roles.items())]
        self.fields["role"].choices = choices  # type: ignore[attr-defined]

    @property
    def link(self) -> dict[str, Any]:
        """As the service takes it."""
        return {"group": self.cleaned_data["group"], "role": self.roles.get(self.cleaned_data["role"])}


def _open_groups(actor: Actor) -> list[Group]:
    return open_tree(actor, Permission.MANAGE_SETTINGS)
