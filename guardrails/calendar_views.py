"""The windows that run now, by a calendar that is being chosen."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from guardrails.windows import Calendar, Kind, containing
from orgs.doors import OrgRequest, org_view
from orgs.permissions import Permission
from orgs.services.changes import zone_named
from orgs.services.organizations import CALENDAR

SHOWN: tuple[tuple[Kind, str], ...] = (
    ("day", "Today"),
    ("week", "This week"),
    ("month", "This month"),
    ("quarter", "This quarter"),
    ("year", "This fiscal year"),
)


class Running(NamedTuple):
    """Local times of the calendar; `hours` where a day has other than 24."""

    label: str
    starts_at: datetime
    ends_at: datetime
    hours: str


@require_safe
@org_view(Permission.MANAGE_SETTINGS)
def preview(request: OrgRequest) -> HttpResponse:
    calendar = _chosen(request.GET, kept=Calendar.of(request.organization))
    running, now = running_windows(calendar, now=timezone.now()), timezone.now().astimezone(ZoneInfo(calendar.time_zone))
    context = {"calendar": calendar, "running": running, "now": now}
    return render(request, "guardrails/partials/_calendar.html", context)


def running_windows(calendar: Calendar, *, now: datetime) -> list[Running]:
    zone = ZoneInfo(calendar.time_zone)
    found = [(label, *containing(now, kind, calendar)) for kind, label in SHOWN]
    return [
        Running(label, starts_at.astimezone(zone), ends_at.astimezone(zone), _hours(label, ends_at - starts_at))
        for label, starts_at, ends_at in found
        if starts_at is not None and ends_at is not None
    ]


def _hours(label: str, length: timedelta) -> str:
    return f"{length / timedelta(hours=1):g}" if label == "Today" and length != timedelta(days=1) else ""


def _chosen(query: QueryDict, *, kept: Calendar) -> Calendar:
    """What is not chosen yet, or makes no sense, is as it is kept."""
    name = query.get("time_zone", "").strip()
    numbers = {
        field: int(text)
        for field, (first, last) in CALENDAR.items()
        if (text := query.get(field, "")).isascii() and text.isdigit() and len(text) < 3 and first <= int(text) <= last
    }
    return kept._replace(time_zone=zone_named(name) or kept.time_zone, **numbers)
