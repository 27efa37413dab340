"""The catalogue: what the organisation's models are, cost and can, and which of them the viewer's keys may call."""

from __future__ import annotations

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from guardrails import example_call
from orgs.doors import OrgRequest, org_view
from orgs.permissions import Permission
from proxy import usable_models
from proxy.catalogue_pages import PILLS, endings_in_use, filters_of, prices_of, rows_of
from proxy.own_ways import own_way


@require_safe
@org_view(Permission.VIEW_OWN)
def models(request: OrgRequest) -> HttpResponse:
    offers = usable_models.offers_to(request.actor)
    context = {
        "rows": rows_of(offers, request.GET.dict(), page=reverse("catalogue:model", kwargs={"org": request.organization.slug})),
        "endings": endings_in_use(offers, actor=request.actor),
        "sees_others": request.actor.can_anywhere(Permission.VIEW_USAGE),
        "count": len(offers),
        "clear_url": request.path,
        **filters_of(offers, request.GET),
    }
    return render(request, "proxy/models.html", context)


@require_safe
@org_view(Permission.VIEW_OWN)
def model(request: OrgRequest) -> HttpResponse:
    """One of them, by `?name=`: names hold slashes."""
    offers = {offer.name: offer for offer in usable_models.offers_to(request.actor)}
    offer = offers.get(request.GET.get("name", ""))
    if offer is None:
        raise Http404("no such model")
    pill, tone = PILLS[offer.verdict]
    context = {
        "offer": offer,
        "way": own_way(offer.refusal, actor=request.actor) if offer.refusal else None,
        "pill": pill,
        "tone": tone,
        "prices": prices_of(offer.rates) if offer.rates else [],
        "snippets": example_call.snippets(offer.name, kind=offer.model.kind),
        "replacement": offers.get(offer.model.replaced_by),
        "back_url": reverse("catalogue:models", kwargs={"org": request.organization.slug}),
    }
    return render(request, "proxy/model.html", context)
