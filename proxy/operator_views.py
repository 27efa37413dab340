"""The operator's page of providers: what is declared, whether it can be reached, and how each deployment does."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from orgs.doors import SignedInRequest, staff_view
from proxy.operator_pages import provider_rows
from proxy.routing_pages import model_rows


@require_safe
@staff_view
def providers(request: SignedInRequest) -> HttpResponse:
    models = model_rows()
    return render(request, "platform/providers.html", {"rows": provider_rows(models), "models": models, "in_platform": True})
