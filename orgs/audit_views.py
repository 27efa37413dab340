"""The audit trail's pages: the list, one event, its export, its verification."""

from __future__ import annotations

from typing import cast

from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from gateway_project.lib.queries import id_in
from orgs import audit_pages
from orgs.audit import audit
from orgs.audit_export import FORMATS, streamed
from orgs.audit_selectors import (
    Filters,
    access_event_by_place,
    check_of,
    events_visible_to,
    matching,
    offered_in,
    page_of,
)
from orgs.audit_words import action_words, changes_of, thing_words
from orgs.doors import OrgRequest, org_view
from orgs.permissions import Permission
from orgs.verification import verify_organization


@require_safe
@org_view(Permission.VIEW_AUDIT)
def trail(request: OrgRequest) -> HttpResponse:
    query, filters, visible = request.GET, Filters.of(request.GET), events_visible_to(request.actor)
    now = timezone.now()
    found = matching(visible, filters, now=now)
    page = page_of(found, before=id_in(query.get("before")), after=id_in(query.get("after")))
    in_period = matching(visible, Filters(period=filters.period), now=now)
    context = {
        "rows": audit_pages.rows(page, org=request.organization.slug),
        "filters": filters,
        "clear_url": request.path,
        "older_url": page.older and audit_pages.url_with(query, {"before": str(page.older)}),
        "newer_url": page.newer and audit_pages.url_with(query, {"after": str(page.newer)}),
        "exports": audit_pages.export_urls(query, org=request.organization.slug),
        "chain": audit_pages.badge(*check_of(request.organization)),
        "may_verify": request.actor.can_everywhere(Permission.VIEW_AUDIT),
        **audit_pages.bar(query, filters, offered=offered_in(in_period), page=page),
    }
    return render(request, "orgs/audit.html", context)


@require_safe
@org_view(Permission.VIEW_AUDIT)
def event(request: OrgRequest, sequence: int) -> HttpResponse:
    found = access_event_by_place(request.actor, sequence)
    context = {
        "event": found,
        "words": action_words(found.action),
        "thing": thing_words(found.object_type),
        "changes": changes_of(found),
    }
    return render(request, "orgs/audit_event.html", context)


@require_safe
@org_view(Permission.VIEW_AUDIT)
def export(request: OrgRequest) -> HttpResponse:
    """All that the page's filters show, on whatever page. Whoever takes it along is in the trail, too: after it."""
    filters, form = Filters.of(request.GET), request.GET.get("format", "csv")
    form = form if form in FORMATS else "csv"
    count = check_of(request.organization)[1]
    events = matching(events_visible_to(request.actor), filters, now=timezone.now()).filter(sequence__lte=count)
    if request.method == "GET":
        with transaction.atomic():
            asked = {name: str(value) for name, value in filters._asdict().items() if value}
            by = request.viewer or request.actor
            audit("audit.exported", by=by, target=request.organization, after={"format": form, **asked})
    name = f"audit-{request.organization.slug}-{timezone.localdate():%Y-%m-%d}"
    # A door is for responses of either kind; its type names the usual one.
    return cast(HttpResponse, streamed(events, form=form, name=name, request=request))


@require_POST
@org_view(Permission.VIEW_AUDIT)
def verify(request: OrgRequest) -> HttpResponse:
    request.actor.require_everywhere(Permission.VIEW_AUDIT)
    verify_organization(request.organization)
    if not request.htmx:
        return redirect("audit:list", org=request.organization.slug)
    context = {"chain": audit_pages.badge(*check_of(request.organization)), "may_verify": True}
    return render(request, "orgs/partials/_audit_chain.html", context)
