"""What the pages show, put together for their templates: tiles, averages and filter bars."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import reduce
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.http import QueryDict

from analytics.filters import PERIODS, STATUSES, Filters, Period, url_with
from analytics.reasons import REASONS
from analytics.savings import Savings
from analytics.usage import MOST_OFFERED, TOP_NAMES, Share, Sums, Usage
from billing.models import UsageRecord
from gateway_project.lib import formatting
from gateway_project.lib.money import display_usd, exact_usd
from orgs.models import MAX_LEVEL, ApiKey, Group

Option = dict[str, Any]


class Tile(NamedTuple):
    """A card of templates/components/kpi.html. `delta_tone`: what a rise means, where it means anything."""

    label: str
    value: str
    sub: str
    values: list[int]
    delta: str = ""
    delta_tone: str = "muted"
    title: str = ""
    url: str = ""


def tiles(usage: Usage, *, period: Period, now: datetime, query: QueryDict, log: str) -> list[Tile]:
    """`log` is the path of the call log; tiles lead to the calls they count. Their lines end now: what is to come is not zero."""
    total = usage.total
    # Without enough to compare with there is no change to tell.
    before = usage.before if usage.is_comparable else Sums()
    series = usage.by_slot[: bisect_right(period.slots, now)]
    return [
        Tile(
            "Spend",
            display_usd(total.charged),
            f"{display_usd(_average(total.charged, total.ran))} a call on average",
            [sums.charged for sums in series],
            formatting.change(total.charged, before.charged),
            title=f"${exact_usd(total.charged)}",
        ),
        Tile(
            "Calls",
            formatting.compact(total.calls),
            f"{_count(total.refused)} refused" if total.refused else "none refused by a limit",
            [sums.calls for sums in series],
            formatting.change(total.calls, before.calls),
            title=f"{total.calls:,}",
            url=url_with(query, {"period": period.name}, path=log),
        ),
        Tile(
            "Tokens",
            formatting.compact(total.tokens),
            f"{formatting.percent(total.cached, total.tokens)} read from cache" if total.cached else "none read from cache",
            [sums.tokens for sums in series],
            formatting.change(total.tokens, before.tokens),
            title=f"{total.tokens:,}",
        ),
        Tile(
            "Errors",
            formatting.percent(total.errors, total.calls),
            f"{_count(total.errors)} of {_count(total.calls)} calls failed",
            [sums.errors for sums in series],
            _points(total, before),
            _tone(total, before),
            url=url_with(query, {"period": period.name, "status": "failed"}, path=log),
        ),
    ]


def compared_with(usage: Usage, *, period: Period) -> str:
    """Empty where there was nothing."""
    if not usage.before.calls:
        return ""
    return f"compared with {period.before}" if usage.is_comparable else f"too few calls in {period.before} to compare with"


class Average(NamedTuple):
    """`note`: what was divided, where it is not what the tiles say."""

    label: str
    value: str
    note: str = ""


def averages(usage: Usage, *, is_own: bool) -> list[Average]:
    """The line under the tiles: what one call comes to and, of more than one's own usage, one member."""
    callers = [share.sums for share in usage.members if share.sums.calls]
    members, theirs = len(callers), reduce(Sums.plus, callers, Sums())  # service keys belong to nobody
    in_use = sum(1 for share in usage.models if share.name and share.sums.tokens)
    total = usage.total
    left_out = "refused ones left out" if total.ran and total.refused else ""
    per_call = [
        Average("Cost per call", display_usd(_average(total.charged, total.ran)) if total.ran else "–", left_out),
        Average("Tokens per call", formatting.compact(_average(total.tokens, total.ran)) if total.ran else "–", left_out),
        Average("Models in use", f"{in_use:,}"),
    ]
    if is_own:
        return per_call
    if not members:
        return [
            Average("Members who called", "0"),
            Average("Spend per member", "–"),
            Average("Tokens per member", "–"),
            *per_call,
        ]
    without = ", service keys left out" if theirs.calls != usage.total.calls else ""
    spend, tokens = display_usd(_average(theirs.charged, members)), formatting.compact(_average(theirs.tokens, members))
    return [
        Average("Members who called", f"{members:,}"),
        Average("Spend per member", spend, f"{display_usd(theirs.charged)} in all{without}"),
        Average("Tokens per member", tokens, f"{formatting.compact(theirs.tokens)} in all{without}"),
        *per_call,
    ]


def leaders(usage: Usage, *, query: QueryDict, is_own: bool) -> list[Option]:
    """Who used most, as cards; each name leads to the same page about it alone."""
    cards = [
        ("Top members", "member", usage.members, "Only service keys called, which belong to nobody."),
        ("Top groups", "group", usage.groups, "No call was made in a group further down."),
        ("Top applications", "application", usage.applications, "No call was made for an application."),
        ("Top models", "model", [share for share in usage.models if share.name], "No call reached a model."),
    ]
    shown = cards[2:] if is_own else cards[:3]
    return [
        {
            "title": title,
            "css": "is-half" if is_own else "is-side",
            "rows": [_leader(share, shares[0], name, query) for share in shares[:TOP_NAMES]],
            "nobody": nobody,
        }
        for title, name, shares, nobody in shown
    ]


def _leader(share: Share, first: Share, name: str, query: QueryDict) -> Option:
    percent = share.sums.charged * 100 // first.sums.charged if first.sums.charged else 0
    url = url_with(query, {name: str(share.id)})
    return {"name": share.name, "url": url, "percent": percent, "calls": share.sums.calls, "charged": share.sums.charged}


def savings_chart(found: Savings) -> Option:
    """Months for templates/components/chart_card.html."""
    series = {
        "Routing": [part.saved.routed for part in found.months],
        "Prompt caching": [part.saved.cached for part in found.months],
    }
    return {
        "id": "savings",
        "title": "Saved by month",
        "kind": "bar",
        "unit": "usd",
        "stacked": True,
        "labels": [part.label for part in found.months],
        "series": [{"name": name, "values": values} for name, values in series.items()],
    }


def level_compared(groups: Sequence[Group], *, filters: Filters) -> int:
    """The level below the group that is looked at, or below the highest that may be seen."""
    chosen = [group.level for group in groups if group.pk == filters.group] or [group.level for group in groups] or [0]
    return min(min(chosen) + 1, MAX_LEVEL)


def overview_filters(
    query: QueryDict, *, period: Period, filters: Filters, usage: Usage, groups: Sequence[Group], is_own: bool
) -> Option:
    """Arguments of templates/components/filter_bar.html."""
    models = [(share.name, share.name) for share in usage.models if share.name]
    selects = [_select("model", "Model", models, chosen=filters.model)]
    if not is_own:
        nodes = [(str(group.pk), "\u2003" * max(group.level - groups[0].level, 0) + group.name) for group in groups]
        people = sorted((str(share.id), share.name) for share in usage.members[:MOST_OFFERED])
        selects = [
            _select("group", "Group", nodes, chosen=filters.group),
            _select("member", "Member", sorted(people, key=lambda person: person[1].lower()), chosen=filters.member),
            *selects,
        ]
    application = next((share.name for share in usage.applications if share.id == filters.application), "")
    return {
        **_bar(
            query,
            period,
            selects,
            chips={"application": application, "key": "", "status": filters.status or None, "preset": filters.preset},
        ),
        "narrowed": any(value not in (None, "") for value in filters),
    }


def call_filters(
    query: QueryDict,
    *,
    period: Period,
    filters: Filters,
    reason: str,
    keys: QuerySet[ApiKey],
    models: Sequence[str],
    calls: Sequence[UsageRecord],
    group: str,
) -> Option:
    """Members are offered by their keys: one statement for both. `group` is the name of the one in the filters."""
    application = next((call.application.name for call in calls if call.application), "")
    shown = keys.select_related(None).select_related("member").only("name", "last_four", "member__name", "member__email")
    offered_keys = list(shown[:MOST_OFFERED])
    people = {str(key.member_id): str(key.member) for key in offered_keys if key.member is not None}
    selects = [
        _select("status", "Status", STATUSES.items(), chosen=filters.status, everything="Any status"),
        _select("reason", "Reason", REASONS.items(), chosen=reason, everything="Any reason"),
        _select("model", "Model", [(name, name) for name in models], chosen=filters.model),
        _select("key", "Key", [(str(key.pk), f"{key.name} …{key.last_four}") for key in offered_keys], chosen=filters.key),
    ]
    if len(people) > 1 or filters.member is not None:
        offered = sorted(people.items(), key=lambda person: person[1].lower())
        selects.append(_select("member", "Member", offered, chosen=filters.member))
    return {
        **_bar(query, period, selects, chips={"group": group, "application": application, "preset": filters.preset}),
        "narrowed": any(value not in (None, "") for value in (*filters, reason)) or bool(query.get("q")),
        "search_keep": _keep(query, "period", "reason", "live", *Filters._fields),
    }


def _bar(query: QueryDict, period: Period, selects: list[Option], *, chips: dict[str, str | None]) -> Option:
    """`chips`: filters without a control of their own, by name, with what they stand for; None: nothing that is known."""
    shown = [
        {"label": f"{name.capitalize()}: {words}" if words else f"One {name}", "remove_url": url_with(query, {name: None})}
        for name, words in chips.items()
        if words is not None and query.get(name)
    ]
    return {
        "periods": _periods(query, period),
        "selects": selects,
        "chips": shown,
        "keep": _keep(query, "period", "q", "live", *chips),
    }


def _select(name: str, label: str, options: Iterable[tuple[str, str]], *, chosen: object, everything: str = "") -> Option:
    """What the URL asks for stays chosen, even if it is not among the offered."""
    value = "" if chosen is None else str(chosen)
    offered = list(options)
    if value and value not in dict(offered):
        offered.append((value, value))
    first = {"value": "", "label": everything or f"All {label.lower()}s"}
    return {
        "name": name,
        "label": label,
        "value": value,
        "options": [first, *({"value": value, "label": words} for value, words in offered)],
    }


def _periods(query: QueryDict, period: Period) -> list[Option]:
    return [
        {"label": label, "url": url_with(query, {"period": name}), "active": name == period.name}
        for name, label in PERIODS.items()
    ]


def _keep(query: QueryDict, *names: str) -> dict[str, str]:
    return {name: str(query[name]) for name in names if query.get(name)}


def _points(total: Sums, before: Sums) -> str:
    """The change of the error rate in percentage points, which a change in per cent would blow up."""
    if not before.calls or not total.calls:
        return ""
    points = Decimal(total.errors * 100) / total.calls - Decimal(before.errors * 100) / before.calls
    rounded = points.quantize(Decimal("0.01"))
    return f"{rounded:+} pp" if rounded else "±0 pp"


def _tone(total: Sums, before: Sums) -> str:
    if not before.calls or not total.calls:
        return "muted"
    now, then = total.errors * before.calls, before.errors * total.calls
    return "bad" if now > then else "ok" if now < then else "muted"


def _average(amount: int, number: int) -> int:
    return (amount + number // 2) // number if number else 0


def _count(number: int) -> str:
    return formatting.compact(number)
