"""View as: whom one may look as, start and end (orgs/viewing.py)."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from gateway_project.lib.queries import search_in
from orgs import viewing
from orgs.doors import OrgRequest, SignedInRequest, org_view, signed_in_view
from orgs.errors import Refused
from orgs.lookups import access_member_by_id
from orgs.origin import origin_of
from orgs.permissions import Permission
from orgs.selectors import viewable_members

MOST_SHOWN = 50


@require_safe
@org_view(Permission.MANAGE_MEMBERS)
def choose(request: OrgRequest) -> HttpResponse:
    search = search_in(request.GET.get("q"), 120)
    people = list(viewable_members(request.actor, search=search)[: MOST_SHOWN + 1])
    context = {"people": people[:MOST_SHOWN], "more": len(people) > MOST_SHOWN, "search": search}
    return render(request, "orgs/view_as.html", context)


@require_POST
@org_view(Permission.MANAGE_MEMBERS)
def start(request: OrgRequest, member_id: int) -> HttpResponse:
    membership = access_member_by_id(request.actor, member_id, Permission.MANAGE_MEMBERS)
    try:
        viewing.start(request.session, membership.user, by=request.actor)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect("orgs:view_as", org=request.organization.slug)
    return redirect(request.organization)


@require_POST
@signed_in_view
def end(request: SignedInRequest) -> HttpResponse:
    """Outside the organisation's door, which refuses every change meanwhile."""
    organization = viewing.end(request.session, by=request.user, origin=origin_of(request))
    return redirect(organization or "orgs:home")
