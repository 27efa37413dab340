"""The operator's list of organisations: who is in each, and what it has spent this month."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from analytics.operator_selectors import organization_rows
from orgs.doors import SignedInRequest, staff_view
from orgs.operator_pages import Search, page_of
from orgs.operator_pages import organizations as found


@require_safe
@staff_view
def organizations(request: SignedInRequest) -> HttpResponse:
    search = Search.of(request.GET)
    page = page_of(found(search), search)
    context = {
        "rows": organization_rows(page.rows),
        "search": search,
        "newer_url": page.newer_url,
        "older_url": page.older_url,
        "in_platform": True,
    }
    return render(request, "platform/organizations.html", context)
