"""The doors of the console: every view declares who may pass, and a test walks the URLconf for one that does not.

`org_view(Permission.X, …)` is the only way into an organisation: anonymous people go to the login, strangers get the
same 404 as for an organisation that does not exist, members without the second factor that it requires to where they
set one up, and members without any of the permissions anywhere a 403 that says what is missing and who can grant it. A
view that acts on one thing still asks for that thing by its id (orgs/lookups.py), which judges the very node.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, Literal, NamedTuple, ParamSpec, TypeVar, cast
from zoneinfo import ZoneInfo

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from orgs.actor import Actor
from orgs.denials import record_denial
from orgs.errors import NotAllowed, OrganizationFrozen
from orgs.lookups import access_organization_by_slug
from orgs.models import Membership, Organization, User
from orgs.origin import origin_of
from orgs.permissions import Permission
from orgs.second_factor import keeps_out
from orgs.selectors import granters, memberships_of, organizations_among
from orgs.viewing import OnlyLooking, look, refuse_change

P = ParamSpec("P")
View = TypeVar("View", bound=Callable[..., object])
LAST_ORGANIZATION = "last_organization"


class SignedInRequest(HttpRequest):
    user: User
    htmx: HtmxDetails


class OrgRequest(SignedInRequest):
    """What a view behind `org_view` gets."""

    organization: Organization
    actor: Actor
    # All that the person belongs to, for the switcher.
    organizations: list[Organization]
    # Who looks, while `actor` is somebody below: see orgs/viewing.py.
    viewer: Actor | None


class Door(NamedTuple):
    """Any one of the permissions is enough. What is behind "api" and "directory" answers programs, in shapes of their own."""

    kind: Literal["organization", "signed_in", "staff", "api", "directory", "public"]
    permissions: tuple[Permission, ...] = ()


def org_view(
    *permissions: Permission,
) -> Callable[[Callable[Concatenate[OrgRequest, P], HttpResponse]], Callable[..., HttpResponse]]:
    """For views below `/o/<slug:org>/`; the view gets `request.organization` and `request.actor` in place of `org`."""

    def declare(view: Callable[Concatenate[OrgRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
        @functools.wraps(view)
        def opened(request: HttpRequest, org: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if not request.user.is_authenticated:
                return _to_login(request)
            entered = _enter(request, slug=org)
            if keeps_out(entered.organization, entered.user):
                return _to_second_factor(entered)
            try:
                if entered.organization.frozen_at:
                    raise OrganizationFrozen
                refuse_change(request.method, looks=look(entered))
                if not any(entered.actor.can_anywhere(permission) for permission in permissions):
                    raise NotAllowed(permissions[0])
                with timezone.override(ZoneInfo(entered.organization.time_zone)):
                    response = view(entered, *args, **kwargs)
            except NotAllowed as missing:
                response = _forbidden(entered, missing)
            except OrganizationFrozen:
                response = render(entered, "orgs/frozen.html", status=403)
            except OnlyLooking as looking:
                response = render(entered, "403.html", {"exception": str(looking)}, status=403)
            add_never_cache_headers(response)
            return response

        return with_door(opened, Door("organization", permissions))

    return declare


def signed_in_view(view: Callable[Concatenate[SignedInRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
    """For pages of the person, outside any organisation."""

    @functools.wraps(view)
    def opened(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not request.user.is_authenticated:
            return _to_login(request)
        return view(cast(SignedInRequest, request), *args, **kwargs)

    return with_door(opened, Door("signed_in"))


def staff_view(view: Callable[Concatenate[SignedInRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
    """For the operator's pages: to everybody else they do not exist."""

    @functools.wraps(view)
    def opened(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not request.user.is_authenticated:
            return _to_login(request)
        entered = cast(SignedInRequest, request)
        if not entered.user.is_staff:
            raise Http404("no such page")
        response = view(entered, *args, **kwargs)
        add_never_cache_headers(response)
        return response

    return with_door(opened, Door("staff"))


def public_view(view: Callable[P, HttpResponse]) -> Callable[P, HttpResponse]:
    """For pages that anyone may see."""
    return with_door(view, Door("public"))


def door_of(view: Callable[..., object]) -> Door | None:
    """What a view declared; None for one that declared nothing."""
    return getattr(view, "door", None)


def with_door(view: View, door: Door) -> View:
    view.door = door  # type: ignore[attr-defined]
    return view


def _to_login(request: HttpRequest) -> HttpResponse:
    """A fragment asked for by htmx is no place for a login page: the browser goes there as a whole."""
    htmx = cast(SignedInRequest, request).htmx
    if htmx:
        login = redirect_to_login(htmx.current_url_abs_path or "/")
        return HttpResponseClientRedirect(login.url)
    return redirect_to_login(request.get_full_path())


def _enter(request: HttpRequest, *, slug: str) -> OrgRequest:
    entered = cast(OrgRequest, request)
    memberships = memberships_of(entered.user)
    actor = access_organization_by_slug(entered.user, slug, origin=origin_of(request), among=memberships)
    entered.organizations = organizations_among(memberships)
    looks = look(request)
    is_here = looks is not None and looks.viewer.organization == actor.organization
    entered.organization, entered.actor = actor.organization, looks.other if looks and is_here else actor
    entered.viewer = actor if is_here else None
    if request.session.get(LAST_ORGANIZATION) != slug:
        request.session[LAST_ORGANIZATION] = slug
    return entered


def _to_second_factor(request: OrgRequest) -> HttpResponse:
    """Why nothing of the organisation opens, and where to set one up; a fragment leaves its place to that page."""
    if request.htmx:
        return HttpResponseClientRedirect(request.organization.get_absolute_url())
    response = render(request, "orgs/second_factor_required.html", {"organization": request.organization}, status=403)
    add_never_cache_headers(response)
    return response


def _forbidden(request: OrgRequest, missing: NotAllowed) -> HttpResponse:
    """Without a node to speak of, the admins of the group the person belongs to are named. Whom a suspension shuts out lacks no
    permission: who decides about the membership is named."""
    suspended = _suspended(request)
    here = missing.group or next((membership.group for membership in request.actor.memberships), request.organization.root)
    group = suspended.group if suspended else here
    if request.viewer is None:  # whoever looks as somebody else has been denied nothing, nor has the other asked
        record_denial(missing, by=request.actor, method=request.method or "", path=request.path)
    names = [f"{grant.user} ({grant.label})" for grant in granters(group) if grant.user_id != request.user.pk]
    context = {"permission": missing.permission.label, "granters": names, "suspended": suspended}
    return render(request, "403.html", context, status=403)


def _suspended(request: OrgRequest) -> Membership | None:
    """The highest that is, of somebody who has nothing left there; None where it is something else that is missing."""
    if request.actor.memberships:
        return None
    own = [one for one in memberships_of(request.actor.user) if one.organization == request.organization and one.suspended_at]
    return min(own, key=lambda membership: membership.group.level, default=None)
