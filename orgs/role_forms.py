"""The forms of roles: what one names, and granting one."""

from __future__ import annotations

from typing import Any

from django import forms

from gateway_project.lib.filled import Filled
from orgs.actor import Actor
from orgs.group_fields import GroupField
from orgs.models import Group, Organization, Role, User
from orgs.permissions import Permission, RoleName
from orgs.powers import AnyRole, makes_super_admin, may_give
from orgs.role_words import areas
from orgs.selectors import live_memberships, open_tree, roles_visible_to
from orgs.services.roles import DESCRIPTION_LENGTH, NAME_LENGTH


def role_homes(actor: Actor) -> list[Group]:
    """Groups the actor may grant roles at."""
    return [group for group in open_tree(actor, Permission.GRANT_ROLES) if actor.can(Permission.GRANT_ROLES, group)]


class RoleForm(Filled):
    name = forms.CharField(max_length=NAME_LENGTH, widget=forms.TextInput(attrs={"placeholder": "Team lead", "autofocus": True}))
    description = forms.CharField(
        max_length=DESCRIPTION_LENGTH, required=False, widget=forms.TextInput(attrs={"placeholder": "Who has it, and what for"})
    )
    permissions = forms.MultipleChoiceField(
        choices=[(permission.value, permission.label) for permission in Permission],
        error_messages={"required": "Choose at least one permission."},
    )

    def __init__(self, data: Any = None, *, actor: Actor, role: Role | None = None) -> None:
        """A role stays at the group it was made at."""
        there = {"name": role.name, "description": role.description, "permissions": role.permissions} if role else {}
        super().__init__(data, there=there)
        self.role = role
        if role is None:
            homes = role_homes(actor)
            self.fields["group"] = GroupField(
                homes,
                initial=homes[0].pk if homes else None,
                empty_label=None,
                label="Can be granted at",
                help_text="And below.",
            )

    @property
    def areas(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The matrix as it was typed."""
        chosen = set(self["permissions"].value() or [])
        return [
            (name, [{**line._asdict(), "on": line.permission in chosen} for line in lines]) for name, lines in areas().items()
        ]

    @property
    def named(self) -> list[Permission]:
        return [Permission(value) for value in self.cleaned_data["permissions"]]


def roles_by_token(actor: Actor) -> dict[str, AnyRole]:
    """All that there are, by token: "admin", "role-12"."""
    shipped: dict[str, AnyRole] = {role.value: role for role in RoleName}
    return shipped | {f"role-{role.pk}": role for role in roles_visible_to(actor).select_related(None)}


def role_choices(actor: Actor, *, groups: list[Group]) -> dict[str, AnyRole]:
    """What the actor may give at some of these groups, by token."""
    roles = roles_by_token(actor)
    return {token: role for token, role in roles.items() if any(may_give(role, group, by=actor) for group in groups)}


def role_words(role: AnyRole) -> str:
    return role.name if isinstance(role, Role) else role.value.title()


def ask_again(form: forms.Form, *, whom: str, organization: Organization) -> None:
    """In a form's `clean`, before it makes somebody Super Admin: it shows a tick that says so, and is right only with it."""
    form.fields["super_admin"] = forms.BooleanField(
        required=False,
        label=f"I want {whom} to be Super Admin",
        help_text=f"That is everything in {organization}: all groups, keys, money and settings, and the roles of everybody else.",
    )
    if form.data.get("super_admin") != "on":
        form.add_error("super_admin", "Admin of the topmost group is Super Admin. Tick this, or choose another role or group.")


class GrantForm(forms.Form):
    """A role for one person at one group. Offered is what the actor may give somewhere; the service judges the pair.

    No role is chosen beforehand, and no group but the person's own.
    """

    def __init__(self, data: Any = None, *, actor: Actor, user: User) -> None:
        super().__init__(data)
        self.actor, self.user = actor, user
        groups = role_homes(actor)
        self.roles = role_choices(actor, groups=groups)
        choices = [("", "Choose a role"), *((token, role_words(role)) for token, role in self.roles.items())]
        own = live_memberships(user, actor.organization).values_list("group", flat=True)
        homes = [group.pk for group in groups if group.pk in own]
        self.fields["role"] = forms.ChoiceField(choices=choices)
        self.fields["group"] = GroupField(
            groups,
            initial=homes[0] if len(homes) == 1 else None,
            empty_label="Choose a group",
            label="At",
            help_text="The role reaches this group and everything below it.",
        )

    def clean(self) -> dict[str, Any]:
        """What may not be given there is said here already."""
        role, group = self.roles.get(self.cleaned_data.get("role", "")), self.cleaned_data.get("group")
        if role and group and not may_give(role, group, by=self.actor):
            self.add_error("role", f"You may not grant “{role_words(role)}” at {group}.")
        elif role and group and makes_super_admin(role, group):
            ask_again(self, whom=str(self.user), organization=self.actor.organization)
        return self.cleaned_data

    @property
    def role(self) -> AnyRole:
        return self.roles[self.cleaned_data["role"]]
