"""What was used in a period and who used it, in one statement over rollups and the rows not rolled up yet."""

from __future__ import annotations

from collections.abc import Iterable
from operator import add
from typing import Any, NamedTuple

from django.db import connection

from analytics.filters import Filters, Period, Scope
from analytics.rollups import FRESH_SQL, ROLLED_UP_SQL

OTHERS = "Others"
TOP_MODELS = 7
TOP_NAMES = 6
# Among a hundred who used most: what the filters offer.
MOST_OFFERED = 100


class Sums(NamedTuple):
    """Charged nano-dollars, calls, tokens of all kinds, calls that failed, calls refused by a guardrail."""

    charged: int = 0
    calls: int = 0
    tokens: int = 0
    cached: int = 0
    errors: int = 0
    refused: int = 0

    @property
    def ran(self) -> int:
        """Calls that reached a model: a refused one costs nothing, so an average would fall with every refusal."""
        return self.calls - self.refused

    def plus(self, other: Sums) -> Sums:
        return Sums(*map(add, self, other))


class Share(NamedTuple):
    """One of those who used: `id` of the row, or the name of a model."""

    id: int | str | None
    name: str
    sums: Sums


# So many times fewer calls in the period before say that it was hardly covered.
HARDLY = 10


class Usage(NamedTuple):
    """`by_slot` has one entry per slot of the period; `by_model` values too."""

    total: Sums
    before: Sums
    by_slot: list[Sums]
    by_model: dict[str, list[Sums]]
    models: list[Share]
    members: list[Share]
    groups: list[Share]
    applications: list[Share]

    @property
    def is_comparable(self) -> bool:
        """Whether the period before holds enough to say what changed: not where the gateway was hardly in use yet."""
        return self.before.calls > 0 and self.before.calls * HARDLY >= self.total.calls


_SUMS = {
    "charged": "sum(charged_nano_usd)",
    "calls": "sum(calls)",
    "tokens": "sum(input_tokens + cache_read_tokens + cache_write_tokens + output_tokens)",
    "cached": "sum(cache_read_tokens)",
    "errors": "coalesce(sum(calls) FILTER (WHERE status IN ('failed', 'cut', 'abandoned')), 0)",
    "refused": "coalesce(sum(calls) FILTER (WHERE status = 'refused'), 0)",
}

# The slots of the period are 1 and up; the period before is slot 0.
_PART_SQL = """
    SELECT width_bucket(at, %(slots)s::timestamptz[]) AS slot, model, member_id, {group} AS group_id, application_id, {sums}
    FROM {usage} AS usage
    WHERE (at >= %(starts_at)s OR at < %(before_ends_at)s) AND {scope} AND {filters}
    GROUP BY 1, 2, 3, 4, 5
"""
# Rows: (what, slot, model, id, name, *Sums); of the period before only those of what = 'model'.
# In two steps: the many rows are summed once, by hash; the four groupings then sort only what is left of them.
_USAGE_SQL = """
WITH used AS MATERIALIZED ({rolled_up} UNION ALL {fresh}), summed AS (
    SELECT GROUPING(slot, model) AS no_slot, GROUPING(member_id) AS no_member, GROUPING(group_id) AS no_group,
           slot > 0 AS now, slot, model, member_id, group_id, application_id, {sums_of_sums}
    FROM used
    GROUP BY GROUPING SETS ((slot > 0, slot, model), (slot > 0, member_id), (slot > 0, group_id), (slot > 0, application_id))
)
SELECT CASE WHEN no_slot = 0 THEN 'model' WHEN no_member = 0 THEN 'member' WHEN no_group = 0 THEN 'group' ELSE 'application' END,
       slot, model, coalesce(u.id, g.id, a.id), coalesce(nullif(u.name, ''), u.email, g.name, a.name),
       {columns}
FROM summed
LEFT JOIN orgs_user u ON u.id = summed.member_id
LEFT JOIN orgs_group g ON g.id = summed.group_id
LEFT JOIN orgs_application a ON a.id = summed.application_id
WHERE summed.now OR no_slot = 0
"""


def usage_of(scope: Scope, *, period: Period, filters: Filters, level: int) -> Usage:
    """`level`: of the groups that are compared, 1 to 4."""
    scope_sql, scope_values = scope.sql()
    filter_sql, filter_values = filters.sql()
    sums = ", ".join(f"{expression}::bigint AS {name}" for name, expression in _SUMS.items())
    rolled_up, fresh = (
        _PART_SQL.format(group=f"group{level}_id", usage=usage, scope=scope_sql, filters=filter_sql, sums=sums)
        for usage in (ROLLED_UP_SQL, FRESH_SQL)
    )
    statement = _USAGE_SQL.format(
        rolled_up=rolled_up,
        fresh=fresh,
        sums_of_sums=", ".join(f"sum({name})::bigint AS {name}" for name in _SUMS),
        columns=", ".join(_SUMS),
    )
    parameters = {
        **scope_values,
        **filter_values,
        "organization_id": scope.organization_id,
        "since": period.before_starts_at,
        "until": period.ends_at,
        "starts_at": period.starts_at,
        "before_ends_at": period.before_ends_at,
        "slots": [period.starts_at, *period.slots[1:]],
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return _usage(cursor.fetchall(), slots=len(period.slots))


def _usage(rows: Iterable[tuple[Any, ...]], *, slots: int) -> Usage:
    before, by_slot = Sums(), [Sums()] * slots
    by_model: dict[str, list[Sums]] = {}
    shares: dict[str, list[Share]] = {"member": [], "group": [], "application": []}
    for what, slot, model, row_id, name, *figures in rows:
        sums = Sums(*figures)
        if what != "model":
            shares[what].append(Share(row_id, name or "", sums))
        elif slot == 0:
            before = before.plus(sums)
        else:
            by_slot[slot - 1] = by_slot[slot - 1].plus(sums)
            by_model.setdefault(model, [Sums()] * slots)[slot - 1] = sums
    models = [Share(name, name, _sum(series)) for name, series in by_model.items()]
    found = {what: _most_first(share for share in found if share.id is not None) for what, found in shares.items()}
    total = _sum(by_slot)
    return Usage(total, before, by_slot, by_model, _most_first(models), found["member"], found["group"], found["application"])


def _most_first(shares: Iterable[Share]) -> list[Share]:
    return sorted(shares, key=lambda share: (-share.sums.charged, -share.sums.calls, share.name))


def _sum(series: Iterable[Sums]) -> Sums:
    return Sums(*map(sum, zip(*series, strict=True)))


def spend_chart(usage: Usage, *, period: Period) -> dict[str, Any]:
    """Spend by slot and model for templates/components/chart_card.html: the dearest models, the rest as one."""
    spent = [share for share in usage.models if share.sums.charged]
    shown, rest = spent[:TOP_MODELS], spent[TOP_MODELS:]
    series = [{"name": share.name, "values": [sums.charged for sums in usage.by_model[str(share.id)]]} for share in shown]
    if rest:
        columns = zip(*(usage.by_model[str(share.id)] for share in rest), strict=True)
        series.append({"name": OTHERS, "values": [sum(sums.charged for sums in column) for column in columns]})
    return {
        "id": "spend",
        "title": "Spend by model",
        "kind": "bar",
        "unit": "usd",
        "stacked": True,
        "labels": period.labels,
        "series": series,
    }
