"""The operator's pages of list prices, and of the credit of an organisation."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing import credits
from billing import operator_pages as pages
from billing.operator_forms import TopUpForm
from billing.prices import sync, sync_by
from billing.topping_up import top_up_by
from gateway_project.lib.money import display_usd
from orgs.answers import go_to, show_refusal
from orgs.doors import SignedInRequest, staff_view
from orgs.errors import Refused
from orgs.operator_pages import organization_by_id
from orgs.origin import origin_of
from orgs.services.freezing import Operator


@require_safe
@staff_view
def prices(request: SignedInRequest) -> HttpResponse:
    context = {"sources": pages.sources(), "installed": pages.installed(), "in_platform": True}
    return render(request, "platform/prices.html", context)


@require_safe
@staff_view
def difference(request: SignedInRequest) -> HttpResponse:
    """Compares every price, which takes a second: loaded after the page, or opened by itself."""
    report = sync(dry_run=True)
    context = {"report": report, "changes": pages.changes(report), "in_platform": True}
    return render(
        request, "platform/partials/_price_difference.html" if request.htmx else "platform/price_difference.html", context
    )


@require_POST
@staff_view
def apply(request: SignedInRequest) -> HttpResponse:
    report = sync_by(Operator(request.user, origin_of(request)))
    if report.added or report.changed:
        messages.success(
            request, f"Appended: {len(report.added)} new prices, {len(report.changed)} changed ones. They count now."
        )
    else:
        messages.info(request, f"Prices are those of {report.source}: nothing to do.")
    return redirect("platform:prices")


@require_http_methods(["GET", "HEAD", "POST"])
@staff_view
def credit(request: SignedInRequest, organization_id: int) -> HttpResponse:
    """What an organisation may still spend, how that came about, and more of it."""
    organization = organization_by_id(organization_id)
    form, back = TopUpForm(request.POST if request.method == "POST" else None), reverse("platform:organizations")
    if form.is_valid():
        try:
            _told(request, form, added=top_up_by(Operator(request.user, origin_of(request)), organization, **form.asked()))
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return go_to(request, back)
    context = {
        "form": form,
        "form_action": request.path,
        "back_url": back,
        "name": organization.name,
        "left_nano_usd": credits.available(organization),
        "movements": credits.movements_of(organization).order_by("-created_at", "-pk")[: pages.LATEST],
    }
    return render(request, "platform/credit.html", context, status=422 if form.is_bound else 200)


def _told(request: SignedInRequest, form: TopUpForm, *, added: bool) -> None:
    if added:
        messages.success(request, f"{display_usd(form.cleaned_data['amount'])} were added. They count on the next call.")
    else:
        messages.info(request, f"“{form.cleaned_data['reference']}” had been added before: nothing was added now.")
