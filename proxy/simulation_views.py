"""Simulations: the list, a new one, one with its progress or result, and what can be done with it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from orgs.answers import go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from proxy import simulation_services as services
from proxy.models import Simulation
from proxy.simulation_forms import SimulationForm
from proxy.simulation_pages import listed, shown

LISTED = 50


@require_safe
@org_view(Permission.MANAGE_GUARDRAILS)
def simulations(request: OrgRequest) -> HttpResponse:
    rows = [listed(one) for one in services.visible_to(request.actor)[:LISTED]]
    context = {"rows": rows, "running": any(row.simulation.is_unfinished for row in rows), "most": LISTED}
    return render(request, "proxy/simulations.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_GUARDRAILS)
def new(request: OrgRequest) -> HttpResponse:
    form = SimulationForm(request.POST if request.method == "POST" else None, actor=request.actor, asked=request.GET)
    if form.is_valid():
        try:
            return redirect(_url(services.start(form.wanted, by=request.actor)))
        except Refused as refused:
            show_refusal(form, refused)
    return render(request, "proxy/simulation_new.html", {"form": form}, status=422 if form.is_bound else 200)


@require_safe
@org_view(Permission.MANAGE_GUARDRAILS)
def simulation(request: OrgRequest, simulation_id: int) -> HttpResponse:
    found = services.access_simulation_by_id(request.actor, simulation_id)
    return render(request, "proxy/simulation.html", {"simulation": found, "page": shown(found, request.organization)})


@require_safe
@org_view(Permission.MANAGE_GUARDRAILS)
def progress(request: OrgRequest, simulation_id: int) -> HttpResponse:
    """The bar of one that runs; of one that has ended, the way to its page."""
    found = services.access_simulation_by_id(request.actor, simulation_id)
    if not found.is_unfinished:
        return HttpResponseClientRedirect(_url(found))
    return render(request, "proxy/partials/_simulation_progress.html", {"simulation": found})


@require_POST
@org_view(Permission.MANAGE_GUARDRAILS)
def cancel(request: OrgRequest, simulation_id: int) -> HttpResponse:
    found = services.access_simulation_by_id(request.actor, simulation_id)
    try:
        if services.cancel(found, by=request.actor):
            messages.success(request, f"{found.name} is cancelled.")
        else:
            messages.info(request, f"{found.name} had ended already.")
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect(_url(found))


@require_POST
@org_view(Permission.MANAGE_GUARDRAILS)
def again(request: OrgRequest, simulation_id: int) -> HttpResponse:
    found = services.access_simulation_by_id(request.actor, simulation_id)
    tried(request, lambda: services.start_again(found, by=request.actor))
    return redirect(_url(found))


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_GUARDRAILS)
def delete(request: OrgRequest, simulation_id: int) -> HttpResponse:
    found = services.access_simulation_by_id(request.actor, simulation_id)
    if request.method == "POST":
        tried(request, lambda: services.delete(found, by=request.actor), f"{found.name} is deleted.")
        back = reverse("simulations:list", kwargs={"org": request.organization.slug})
        return go_to(request, back)
    context = {
        "form_action": request.path,
        "back_url": _url(found),
        "confirm_title": f"Delete {found.name}?",
        "confirm_losses": ["Its result is gone. It can be simulated again as long as the ledger lasts."],
        "confirm_verb": "Delete simulation",
    }
    return render(request, "components/confirm.html", context)


def _url(simulation: Simulation) -> str:
    return reverse("simulations:one", kwargs={"org": simulation.organization.slug, "simulation_id": simulation.pk})
