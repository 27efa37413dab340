"""The operator's page of the installation itself: workers, background work, versions."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from gateway_project.background import background
from gateway_project.degraded import state
from gateway_project.versions import versions
from guardrails.leases import alive_workers
from orgs.doors import SignedInRequest, staff_view


@require_safe
@staff_view
def system(request: SignedInRequest) -> HttpResponse:
    context = {
        "versions": versions(),
        "background": background(),
        "workers": alive_workers(),
        "state": state(),
        "in_platform": True,
    }
    return render(request, "platform/system.html", context)
