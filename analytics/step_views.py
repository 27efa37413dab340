"""The list of first steps on the overview of a new organisation."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from analytics.first_steps import first_steps, shows_first_steps
from orgs.doors import OrgRequest, org_view
from orgs.permissions import Permission
from orgs.services.organizations import close_first_steps


@require_safe
@org_view(Permission.MANAGE_SETTINGS)
def steps(request: OrgRequest) -> HttpResponse:
    """Nothing once all are done, or the list was closed."""
    request.actor.require_everywhere(Permission.MANAGE_SETTINGS)
    found = first_steps(request.actor) if shows_first_steps(request.actor) else []
    done = sum(step.is_done for step in found)
    if done == len(found):
        return HttpResponse()
    return render(request, "analytics/partials/_first_steps.html", {"steps": found, "done": done})


@require_POST
@org_view(Permission.MANAGE_SETTINGS)
def close(request: OrgRequest) -> HttpResponse:
    close_first_steps(request.organization, by=request.actor)
    return redirect(request.organization)
