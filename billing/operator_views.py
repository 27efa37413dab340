"""The operator's page of list prices: preview what the installed price list would change, and apply it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from billing import operator_pages as pages
from billing.prices import sync, sync_by
from orgs.doors import SignedInRequest, staff_view
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
