"""Overview and call log, and the parts of other apps' pages that read usage."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from analytics import budgets, call_export, palette, selectors
from analytics.call_rows import call_rows
from analytics.call_story import story_of
from analytics.filters import Filters, Period, Scope, calls_beginning_with, period_named, url_with
from analytics.first_steps import shows_first_steps
from analytics.live import STANDING, is_unchanged, live_of
from analytics.pages import averages, call_filters, compared_with, leaders, level_compared, overview_filters, savings_chart, tiles
from analytics.reasons import REASONS
from analytics.savings import preset_use, savings_of
from analytics.usage import spend_chart, usage_of
from billing.credits import sees_credit
from billing.models import UsageRecord
from gateway_project.lib import formatting
from gateway_project.lib.exports import streamed
from gateway_project.lib.queries import ids_in, search_in, text_in, uuid_in
from guardrails import example_call, windows
from orgs.actor import Actor
from orgs.audit import audit
from orgs.doors import OrgRequest, org_view
from orgs.lookups import access_key_by_id
from orgs.permissions import Permission
from orgs.selectors import groups_visible_to, keys_visible_to, members_visible_to, own_keys, tree_visible_to
from proxy.named import presets_visible_to

NEAREST_BUDGETS = 6
LONGEST_PERIOD = "30d"
OWN_KEYS = 5
# One digit more than `req_` and an id with its hyphens.
LONGEST_SEARCH = 41


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def overview(request: OrgRequest) -> HttpResponse:
    now, organization, actor = timezone.now(), request.organization, request.actor
    period = period_named(request.GET.get("period"), now=now, calendar=windows.Calendar.of(organization)).drawn
    filters, scope, groups = Filters.of(request.GET), Scope.of(actor), tree_visible_to(actor, Permission.VIEW_USAGE)
    usage = usage_of(scope, period=period, filters=filters, level=level_compared(groups, filters=filters))
    log = reverse("analytics:calls", kwargs={"org": organization.slug})
    context = {
        "usage": usage,
        "tiles": tiles(usage, period=period, now=now, query=request.GET, log=log),
        "averages": averages(usage, is_own=scope.is_own),
        "leaders": leaders(usage, query=request.GET, is_own=scope.is_own),
        "clear_url": request.path,
        **({} if usage.total.calls else _without_calls(actor, query=request.GET, period=period)),
        "compared": compared_with(usage, period=period),
        "per": f"Per {period.step}",
        "chart": spend_chart(usage, period=period),
        "limits_url": url_with(request.GET, {}, path=reverse("analytics:limits_near", kwargs={"org": organization.slug})),
        "shows_first_steps": shows_first_steps(actor),
        **(_start(actor) if scope.is_own else {}),
        "sees_credit": sees_credit(actor),
        **overview_filters(request.GET, period=period, filters=filters, usage=usage, groups=groups, is_own=scope.is_own),
    }
    return render(request, "analytics/overview.html", context)


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def limits_near(request: OrgRequest) -> HttpResponse:
    """What is left of the credit, and the budgets nearest to their limit: beside the overview's chart."""
    organization, actor = request.organization, request.actor
    pool = [budgets.pool_of(organization)] if sees_credit(actor) else []
    limits = budgets.used(
        organization, [*pool, *budgets.budgets_visible_to(actor, filters=Filters.of(request.GET))], now=timezone.now()
    )
    context = {
        "budgets": sorted(limits[len(pool) :], key=budgets.Used.is_further_than)[:NEAREST_BUDGETS],
        "credit": limits[0].limit.value - limits[0].spent if pool else None,
    }
    return render(request, "analytics/partials/_limits_near.html", context)


def _without_calls(actor: Actor, *, query: QueryDict, period: Period) -> dict[str, Any]:
    """Where to look instead: whoever has keys is no beginner."""
    longer_url = url_with(query, {"period": LONGEST_PERIOD}) if period.name != LONGEST_PERIOD else ""
    return {"longer_url": longer_url, "has_keys": keys_visible_to(actor).exists()}


def _start(actor: Actor) -> dict[str, Any]:
    """Whoever sees its own usage only begins here: its keys, and a call to copy."""
    own = list(own_keys(actor)[:OWN_KEYS])
    return {"is_own": True, "own_keys": own, "snippets": example_call.snippets()}


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def calls(request: OrgRequest) -> HttpResponse:
    query, actor = request.GET, request.actor
    period, filters, reason, found = _asked_for(request)
    if is_unchanged(request, found):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    page = selectors.call_page(found, before=uuid_in(query.get("before")), after=uuid_in(query.get("after")))
    group = groups_visible_to(actor).filter(pk=filters.group).first() if filters.group is not None else None
    live = live_of(query, (call.pk for call in page.calls), now=timezone.now())
    offered: dict[str, Any] = {"keys": keys_visible_to(actor), "models": selectors.names_called(actor), "calls": page.calls}
    context = {
        **_listed(query, page, org=request.organization.slug),
        "file_url": url_with(query, STANDING, path=reverse("analytics:calls_file", kwargs={"org": request.organization.slug})),
        **{"live": live, "search": _search_in(query), "clear_url": request.path},
        **call_filters(query, period=period, filters=filters, reason=reason, group=group.name if group else "", **offered),
    }
    is_asked_again = request.htmx and live and live.poll_url
    return render(request, "analytics/partials/_calls.html" if is_asked_again else "analytics/calls.html", context)


def _listed(query: QueryDict, page: selectors.CallPage, *, org: str) -> dict[str, Any]:
    return {
        "rows": call_rows(page.calls, org=org),
        "older_url": page.older and url_with(query, {"before": str(page.older), **STANDING}),
        "newer_url": page.newer and url_with(query, {"after": str(page.newer), **STANDING}),
    }


class Asked(NamedTuple):
    """What the log shows: `calls` are those of all its pages."""

    period: Period
    filters: Filters
    reason: str
    calls: QuerySet[UsageRecord]


def _asked_for(request: OrgRequest) -> Asked:
    """A search for what is no request id finds nothing."""
    query, calendar = request.GET, windows.Calendar.of(request.organization)
    period = period_named(query.get("period"), now=timezone.now(), calendar=calendar, default="7d")
    filters, visible = Filters.of(query), selectors.calls_visible_to(request.actor)
    reason = code if (code := query.get("reason", "")) in REASONS else ""
    search = _search_in(query)
    ids = calls_beginning_with(search)
    found = visible.none() if search and ids is None else visible
    return Asked(
        period, filters, reason, selectors.calls_of(found, since=period.starts_at, filters=filters, reason=reason, ids=ids)
    )


def _search_in(query: QueryDict) -> str:
    """Of more than a request id with its prefix the beginning: it finds nothing, rather than everything."""
    return search_in(query.get("q"), LONGEST_SEARCH)


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def calls_file(request: OrgRequest) -> HttpResponse:
    """All that the log shows, on whatever page, as CSV. Whoever takes it along is in the trail."""
    asked, organization = _asked_for(request), request.organization
    if request.method == "GET":
        more = {"reason": asked.reason, "request_id": _search_in(request.GET)}
        narrowed = {name: str(value) for name, value in {**asked.filters._asdict(), **more}.items() if value not in (None, "")}
        with transaction.atomic():
            by = request.viewer or request.actor
            audit("calls.exported", by=by, target=organization, after={"period": asked.period.name, **narrowed})
    parts = call_export.parts(asked.calls, organization=organization)
    name = f"calls-{organization.slug}-{timezone.localdate():%Y-%m-%d}.csv"
    # A door is for responses of either kind; its type names the usual one.
    return cast(HttpResponse, streamed(parts, content_type="text/csv; charset=utf-8", name=name, request=request))


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def call(request: OrgRequest, call_id: UUID) -> HttpResponse:
    found = selectors.access_call_by_id(request.actor, call_id)
    story = story_of(found, attempts=selectors.attempts_of(found), path=selectors.path_of(found))
    back_url = reverse("analytics:calls", kwargs={"org": request.organization.slug})
    return render(request, "analytics/call.html", {"call": found, "story": story, "back_url": back_url})


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def find(request: OrgRequest) -> HttpResponse:
    """The command palette's hits; without JavaScript a page of its own."""
    search = text_in(request.GET.get("q"), 120)
    context = {"search": search, "sections": palette.found(request.actor, search=search)}
    return render(request, "analytics/partials/_found.html" if request.htmx else "analytics/find.html", context)


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def keys_use(request: OrgRequest) -> HttpResponse:
    """Figures of the keys named in `?key=…&key=…`, for the cells of the list of keys."""
    asked = ids_in(request.GET.getlist("key"), most=100)
    keys = list(keys_visible_to(request.actor).filter(pk__in=asked).values_list("pk", flat=True))
    now = timezone.now()
    month = windows.containing(now, "month", windows.Calendar.of(request.organization))
    since = month.starts_at or now
    use = selectors.key_use(request.organization.pk, keys=keys, since=since, until=now + timedelta(hours=1))
    return render(request, "analytics/partials/_keys_use.html", {"use": use})


@require_safe
@org_view(Permission.VIEW_USAGE)
def members_use(request: OrgRequest) -> HttpResponse:
    """Figures of the people named in `?member=…&member=…`, for the cells of the list of members; of their usage in sight."""
    asked = set(ids_in(request.GET.getlist("member"), most=100))
    seen = members_visible_to(request.actor).filter(user__in=asked).values_list("user_id", flat=True)
    now = timezone.now()
    month = windows.containing(now, "month", windows.Calendar.of(request.organization))
    use = selectors.member_use(
        Scope.of(request.actor), members=sorted(set(seen)), since=month.starts_at or now, until=now + timedelta(hours=1)
    )
    return render(request, "analytics/partials/_members_use.html", {"use": use})


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def key_limits(request: OrgRequest, key_id: int) -> HttpResponse:
    """Every limit on the key's path and how far it is used."""
    key = access_key_by_id(request.actor, key_id, Permission.VIEW_USAGE)
    limits = budgets.used(request.organization, budgets.limits_on_path(key), now=timezone.now())
    return render(request, "analytics/partials/_key_limits.html", {"limits": limits, "key": key})


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def key_calls(request: OrgRequest, key_id: int) -> HttpResponse:
    key = access_key_by_id(request.actor, key_id, Permission.VIEW_USAGE)
    rows = call_rows(selectors.recent_calls(key), org=request.organization.slug)
    return render(request, "analytics/partials/_key_calls.html", {"rows": rows, "key": key})


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def key_usage(request: OrgRequest, key_id: int) -> HttpResponse:
    """What the key spent in the last 30 days, by model."""
    key = access_key_by_id(request.actor, key_id, Permission.VIEW_USAGE)
    period = period_named("30d", now=timezone.now(), calendar=windows.Calendar.of(request.organization))
    usage = usage_of(Scope.of(request.actor), period=period, filters=Filters(key=key.pk), level=1)
    context = {"chart": spend_chart(usage, period=period), "usage": usage, "key": key}
    return render(request, "analytics/partials/_key_usage.html", context)


@require_safe
@org_view(Permission.VIEW_USAGE)
def savings(request: OrgRequest) -> HttpResponse:
    """What routing and prompt caches saved, for the routing page."""
    calendar = windows.Calendar.of(request.organization)
    found = savings_of(Scope.of(request.actor), now=timezone.now(), calendar=calendar)
    context = {"savings": found, "chart": savings_chart(found), "hit_rate": formatting.percent(found.now.hits, found.now.input)}
    context["routing_words"] = (
        f"of {found.routed_calls:,} call{'' if found.routed_calls == 1 else 's'} that auto routed, against the baseline"
    )
    return render(request, "analytics/partials/_savings.html", context)


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def presets_use(request: OrgRequest) -> HttpResponse:
    """Figures of the last 30 days of the presets named in `?preset=…&preset=…`, for the cards of the list of presets."""
    asked = ids_in(request.GET.getlist("preset"), most=500)
    visible = presets_visible_to(request.actor).filter(archived_at=None, pk__in=asked)
    places = {preset.pk: (preset.name, preset.group_id) for preset in visible}
    now = timezone.now()
    use = preset_use(request.organization.pk, presets=places, since=now - timedelta(days=30), until=now + timedelta(hours=1))
    return render(request, "analytics/partials/_presets_use.html", {"use": use})
