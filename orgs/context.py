"""What every console page knows: the viewer, the organisation, where one can go.

Lazy: a page that shows none of it costs no query, one that shows all of it at most three, and
none in an organisation, whose door has asked already (orgs/doors.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from orgs import navigation
from orgs.actor import Actor
from orgs.doors import LAST_ORGANIZATION
from orgs.models import Organization, User
from orgs.navigation import Link
from orgs.permissions import Permission
from orgs.selectors import organizations_of
from orgs.services.organizations import may_create_organization
from orgs.viewing import Look, look


@dataclass(frozen=True)
class Choice:
    """An organisation in the switcher."""

    name: str
    slug: str
    kind: str
    initial: str
    switch_url: str


@dataclass(frozen=True)
class Viewer:
    email: str
    display_name: str
    initials: str
    role_label: str


class Console:
    def __init__(self, request: HttpRequest, *, user: User) -> None:
        self.request = request
        self.user = user

    @cached_property
    def own(self) -> list[Organization]:
        found: list[Organization] | None = getattr(self.request, "organizations", None)
        return list(organizations_of(self.user)) if found is None else found

    @cached_property
    def look(self) -> Look | None:
        return look(self.request)

    @cached_property
    def actor(self) -> Actor | None:
        """On pages outside any organisation (the person's own settings) the one used last stays in view, or looked at now."""
        entered: Actor | None = getattr(self.request, "actor", None)
        if entered is not None or not self.own:
            return entered
        if self.look:
            return self.look.other
        last = self.request.session.get(LAST_ORGANIZATION)
        organization = next((found for found in self.own if found.slug == last), self.own[0])
        return Actor.load(self.user, organization=organization)

    def organization(self) -> Organization | None:
        return self.actor.organization if self.actor else None

    def organizations(self) -> list[Choice]:
        return [
            Choice(found.name, found.slug, found.kind, found.initial, reverse("orgs:switch", kwargs={"org": found.slug}))
            for found in self.own
        ]

    def navigation(self) -> list[navigation.Link]:
        return navigation.links(self.actor, path=self.request.path) if self.actor else []

    def platform_url(self) -> str:
        """Where the operator's pages begin; empty for everybody else."""
        return reverse("platform:organizations") if self.user.is_staff else ""

    def new_organization_url(self) -> str:
        """Empty for whoever may make none."""
        return reverse("orgs:new_organization") if not self.look and may_create_organization(self.user) else ""

    def tabs(self) -> list[Link]:
        """Of the area "Groups & members"."""
        return navigation.links(self.actor, path=self.request.path, entries=navigation.TABS) if self.actor else []

    def unguarded(self) -> bool:
        """Whether to warn this viewer that calls pass while limits cannot be checked: whoever may end it is told."""
        actor = self.actor
        return bool(actor and actor.organization.admit_unguarded and actor.can_everywhere(Permission.MANAGE_SETTINGS))

    def looking_as(self) -> Actor | None:
        """Somebody below, as whom the viewer looks at an organisation (orgs/viewing.py)."""
        return self.look.other if self.look else None

    def sees_own(self) -> bool:
        """Whether this page is seen with the viewer's own eyes all the same: it is none of the organisation looked at."""
        return getattr(self.request, "viewer", None) is None

    def may_look_as_others(self) -> bool:
        return bool(self.actor and not self.look and self.actor.can_anywhere(Permission.MANAGE_MEMBERS))

    def viewer(self) -> Viewer:
        own = self.look.viewer if self.look and self.actor is self.look.other else self.actor
        role = own.role_label if own else ""
        return Viewer(self.user.email, self.user.display_name, self.user.initials, role)


def console(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    page = Console(request, user=user)
    parts = (
        page.looking_as,
        page.may_look_as_others,
        page.navigation,
        page.organization,
        page.organizations,
        page.new_organization_url,
        page.tabs,
        page.platform_url,
        page.sees_own,
        page.unguarded,
        page.viewer,
    )
    return {part.__name__: SimpleLazyObject(part) for part in parts}
