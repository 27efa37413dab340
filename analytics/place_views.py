"""Figures of this month for the pages of groups and applications, loaded after them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from analytics import places
from analytics.filters import Scope
from guardrails import windows
from orgs.doors import OrgRequest, org_view
from orgs.lookups import access_application_by_id
from orgs.permissions import Permission
from orgs.tree import applications_seen, groups_seen


@require_safe
@org_view(Permission.VIEW_USAGE)
def groups_use(request: OrgRequest) -> HttpResponse:
    """What each group that the actor sees has spent, for the cells of the tree."""
    since, until = _month(request)
    spent = places.spent_by_group(Scope.of(request.actor), since=since, until=until)
    groups = groups_seen(request.actor, [Permission.VIEW_USAGE]).values_list("pk", flat=True)
    use = [(group, spent.get(group, 0)) for group in groups]
    return render(request, "analytics/partials/_places_use.html", {"use": use, "what": "group"})


@require_safe
@org_view(Permission.VIEW_USAGE)
def applications_use(request: OrgRequest) -> HttpResponse:
    since, until = _month(request)
    spent = places.spent_by_application(Scope.of(request.actor), since=since, until=until)
    applications = applications_seen(request.actor, [Permission.VIEW_USAGE]).values_list("pk", flat=True)
    use = [(application, spent.get(application, 0)) for application in applications]
    return render(request, "analytics/partials/_places_use.html", {"use": use, "what": "application"})


@require_safe
@org_view(Permission.VIEW_USAGE)
def application_use(request: OrgRequest, application_id: int) -> HttpResponse:
    found = access_application_by_id(request.actor, application_id, Permission.VIEW_USAGE)
    since, until = _month(request)
    use = places.application_use(Scope.of(request.actor), application=found.pk, since=since, until=until)
    lists = [("By environment", use.environments), ("By feature", use.features)]
    return render(request, "analytics/partials/_application_use.html", {"use": use, "lists": lists})


def _month(request: OrgRequest) -> tuple[datetime, datetime]:
    now = timezone.now()
    month = windows.containing(now, "month", windows.Calendar.of(request.organization))
    return month.starts_at or now, now + timedelta(hours=1)
