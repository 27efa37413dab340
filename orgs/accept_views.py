"""Accepting an invitation: the page its link and its mail lead to, for people with and without an account."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods

from orgs.adapters import INVITATION
from orgs.doors import LAST_ORGANIZATION, public_view
from orgs.errors import Refused
from orgs.invitation_words import invited_as, until_words
from orgs.models import Membership
from orgs.origin import origin_of
from orgs.selectors import live_memberships
from orgs.services.invitations import Found, Wrong, accept, find, refuse_closed, refuse_person


@require_http_methods(["GET", "HEAD", "POST"])
@public_view
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Whoever has no account yet comes back here from signing up; nothing happens before the button is pressed."""
    found = find(token)
    problem = _problem(found, request)
    if found and not problem and request.method == "POST":
        if not request.user.is_authenticated:
            return redirect_to_login(request.path)
        try:
            return _welcome(request, accept(found, user=request.user, origin=origin_of(request)))
        except Refused as refused:
            problem = refused
    if found and not problem and not request.user.is_authenticated:
        _remember(request, found, token)
    response = render(request, "orgs/accept.html", _context(request, found, problem), status=_status(found, problem, request))
    add_never_cache_headers(response)
    return response


def _problem(found: Found | None, request: HttpRequest) -> Refused | None:
    if found is None:
        return Refused("There is no such invitation. Copy the whole link, or ask for a new one.")
    try:
        refuse_closed(found.invitation)
        if request.user.is_authenticated:
            refuse_person(found, request.user)
    except Refused as refused:
        return refused
    return None


def _remember(request: HttpRequest, found: Found, token: str) -> None:
    """For after the sign-up. Whoever has the mail's own token reads the mails of that address: it needs no other proof."""
    request.session[INVITATION] = token
    if found.mailed:
        get_adapter().stash_verified_email(request, found.invitation.email)


def _welcome(request: HttpRequest, membership: Membership) -> HttpResponse:
    request.session.pop(INVITATION, None)
    request.session[LAST_ORGANIZATION] = membership.organization.slug
    place = f" You belong to {membership.group}." if membership.group.parent_id else ""
    messages.success(request, f"Welcome to {membership.organization}.{place}")
    return redirect(membership.organization)


def _context(request: HttpRequest, found: Found | None, problem: Refused | None) -> dict[str, Any]:
    """Where to sign in and up keeps the way back; who is told that it is somebody else's is told nothing else."""
    way = urlencode({"next": request.path, **({"email": found.invitation.email} if found and found.invitation.email else {})})
    shown = found.invitation if found and (problem is None or isinstance(problem, Wrong)) else None
    member_of = found.invitation.organization if found and _belongs(request, found) else None
    is_done = found and member_of and not isinstance(problem, Wrong) and _is_done(found, request.user)
    return {
        "invitation": shown,
        "already": member_of if is_done else None,
        "until": until_words(shown) if shown else "",
        "role": invited_as(shown) if shown else "",
        "path": shown.group.words() if shown else "",
        "problem": problem.message if problem else "",
        "needs": problem.needs if isinstance(problem, Wrong) else "",
        "home": member_of.get_absolute_url() if member_of else "",
        "login_url": f"{reverse('account_login')}?{way}",
        "signup_url": f"{reverse('account_signup')}?{way}",
    }


def _belongs(request: HttpRequest, found: Found) -> bool:
    user = request.user
    in_use = found.invitation.organization.frozen_at is None
    return in_use and user.is_authenticated and live_memberships(user, found.invitation.organization).exists()


def _is_done(found: Found, member: Any) -> bool:
    """Who has come in by it and opens it again, or needs it no more."""
    is_used = found.invitation.status in ("accepted", "used up")
    here = live_memberships(member, found.invitation.organization).filter(group=found.invitation.group)
    return is_used or here.exists()


def _status(found: Found | None, problem: Refused | None, request: HttpRequest) -> int:
    if found is None:
        return 404
    return 422 if problem and request.method == "POST" else 200
