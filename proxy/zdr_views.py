from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from orgs.doors import OrgRequest, org_view
from orgs.permissions import Permission
from proxy.zdr_pages import reach_for


@require_safe
@org_view(Permission.MANAGE_SETTINGS)
def reach(request: OrgRequest) -> HttpResponse:
    """Beside the switch on the settings page."""
    request.actor.require_everywhere(Permission.MANAGE_SETTINGS)
    return render(request, "proxy/partials/_zdr_reach.html", {"reach": reach_for(request.actor)})
