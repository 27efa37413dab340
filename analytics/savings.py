"""What routing saved against the organisation's baseline model, and what prompt caches saved: from the rollups, in one statement.

Routing saved what the same tokens would have cost at the baseline, at its list price then, less their own list cost; it is
less than nothing where models dearer than the baseline were chosen. Compared are only calls that `auto` chose a model for, made
while there was a baseline: where the caller named the model, nobody routed, and nothing was saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import connection

from analytics.filters import Scope
from analytics.rollups import USAGE_SQL
from guardrails.windows import Calendar, containing

MONTHS = 6
MOST_GROUPS = 8
COMPLEXITIES = {
    "simple": ("Simple", "auto, less than half the need of a strong model"),
    "complex": ("Complex", "auto, half the need or more"),
    "": ("Named", "the caller named the model: routing saved nothing"),
}

_SQL = """
WITH used AS MATERIALIZED (
    SELECT width_bucket(at, %(months)s::timestamptz[]) AS month, complexity, group1_id,
           sum(calls)::bigint AS calls,
           CASE WHEN complexity = '' THEN 0 ELSE sum(baseline_nano_usd)::bigint END AS baseline,
           CASE WHEN complexity = '' THEN 0 ELSE sum(compared_nano_usd)::bigint END AS compared,
           sum(cache_saving_nano_usd)::bigint AS cached,
           sum(cache_read_tokens)::bigint AS hits,
           sum(input_tokens + cache_read_tokens + cache_write_tokens)::bigint AS input
    FROM {usage} AS usage WHERE {scope} GROUP BY 1, 2, 3
)
SELECT month, complexity, group1_id, name, calls, baseline, compared, cached, hits, input
FROM used LEFT JOIN orgs_group ON orgs_group.id = group1_id
"""


class Saved(NamedTuple):
    """Nano-dollars and tokens. `calls` are all calls, compared or not."""

    calls: int = 0
    baseline: int = 0
    compared: int = 0
    cached: int = 0
    hits: int = 0
    input: int = 0

    @property
    def routed(self) -> int:
        return self.baseline - self.compared

    @property
    def total(self) -> int:
        return self.routed + self.cached

    def plus(self, other: Saved) -> Saved:
        return Saved(*(mine + its for mine, its in zip(self, other, strict=True)))


class Part(NamedTuple):
    label: str
    hint: str
    saved: Saved


class Savings(NamedTuple):
    """`months` oldest first, the last is the present one, which the other parts are about."""

    months: list[Part]
    complexities: list[Part]
    groups: list[Part]
    routed_calls: int  # of the present month

    @property
    def now(self) -> Saved:
        return self.months[-1].saved

    @property
    def is_empty(self) -> bool:
        return not any(part.saved.baseline or part.saved.cached for part in self.months)


def savings_of(scope: Scope, *, now: datetime, calendar: Calendar) -> Savings:
    starts = _months(now, calendar)
    condition, values = scope.sql()
    since, until = starts[0], now + timedelta(hours=1)
    parameters = {**values, "organization_id": scope.organization_id, "since": since, "until": until, "months": starts}
    with connection.cursor() as cursor:
        cursor.execute(_SQL.format(usage=USAGE_SQL, scope=condition), parameters)
        rows = cursor.fetchall()
    zone = ZoneInfo(calendar.time_zone)
    return _savings(rows, labels=[f"{start.astimezone(zone):%b %Y}" for start in starts])


def _months(now: datetime, calendar: Calendar) -> list[datetime]:
    """The beginnings of the present month of the organisation and of those before it, oldest first."""
    starts = [containing(now, "month", calendar).starts_at or now]
    while len(starts) < MONTHS:
        before = starts[0] - timedelta(seconds=1)
        starts.insert(0, containing(before, "month", calendar).starts_at or before)
    return starts


def _savings(rows: Iterable[tuple[Any, ...]], *, labels: list[str]) -> Savings:
    months, groups = [Saved()] * len(labels), dict[str, Saved]()
    complexities = dict.fromkeys(COMPLEXITIES, Saved())
    for month, complexity, _, name, *figures in rows:
        saved = Saved(*figures)
        months[month - 1] = months[month - 1].plus(saved)
        if month == len(labels):
            complexities[complexity] = complexities[complexity].plus(saved)
            group = name or "Directly in the organisation"
            groups[group] = groups.get(group, Saved()).plus(saved)
    ranked = sorted(groups.items(), key=lambda entry: (-entry[1].total, entry[0]))
    return Savings(
        [Part(label, "", saved) for label, saved in zip(labels, months, strict=True)],
        [Part(*COMPLEXITIES[name], saved) for name, saved in complexities.items()],
        [Part(name, "", saved) for name, saved in ranked[:MOST_GROUPS]],
        sum(saved.calls for name, saved in complexities.items() if name),
    )


class PresetUse(NamedTuple):
    preset_id: int
    calls: int
    list_nano_usd: int


_PRESETS_SQL = f"""
SELECT lower(preset), group0_id, group1_id, group2_id, group3_id, group4_id, sum(calls)::bigint, sum(list_nano_usd)::bigint
FROM {USAGE_SQL} AS usage WHERE preset <> '' AND status <> 'refused' GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - constants only


def preset_use(organization_id: int, *, presets: dict[int, tuple[str, int]], since: datetime, until: datetime) -> list[PresetUse]:
    """`presets`: name and group by id. Of those with one name the nearest on a call's path was used, as routing chose it."""
    with connection.cursor() as cursor:
        cursor.execute(_PRESETS_SQL, {"organization_id": organization_id, "since": since, "until": until})
        rows = cursor.fetchall()
    by_place = {(name.lower(), group): preset_id for preset_id, (name, group) in presets.items()}
    found = {preset_id: PresetUse(preset_id, 0, 0) for preset_id in presets}
    for name, *path, calls, cost in rows:
        preset_id = next((by_place[name, group] for group in reversed(path) if (name, group) in by_place), None)
        if preset_id is not None:
            known = found[preset_id]
            found[preset_id] = PresetUse(preset_id, known.calls + calls, known.list_nano_usd + cost)
    return list(found.values())
