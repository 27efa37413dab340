"""What was used in a period and who used it, in one statement over rollups and the rows not rolled up yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import connection

from analytics.filters import Filters, Period, Scope
from analytics.rollups import USAGE_SQL

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

    def plus(self, other: Sums) -> Sums:
        return Sums(*(mine + its for mine, its in zip(self, other, strict=True)))


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

# Rows: (what, now, slot, model, id, name, *Sums); the period before is one row of what = 'model' with now = false.
# In two steps: the many rows are summed once, by hash; the four groupings then sort only what is left of them.
_USAGE_SQL = """
WITH used AS MATERIALIZED (
    SELECT at >= %(starts_at)s AS now,
           CASE WHEN at >= %(starts_at)s THEN width_bucket(at, %(slots)s::timestamptz[]) END AS slot,
           CASE WHEN at >= %(starts_at)s THEN model END AS model,
           CASE WHEN at >= %(starts_at)s THEN member_id END AS member_id,
           CASE WHEN at >= %(starts_at)s THEN {group} END AS group_id,
           CASE WHEN at >= %(starts_at)s THEN application_id END AS application_id,
           {sums}
    FROM {usage} AS usage
    WHERE (at >= %(starts_at)s OR at < %(before_ends_at)s) AND {scope} AND {filters}
    GROUP BY 1, 2, 3, 4, 5, 6
), summed AS (
    SELECT now, GROUPING(slot, model) AS no_slot, GROUPING(member_id) AS no_member, GROUPING(group_id) AS no_group,
           slot, model, member_id, group_id, application_id, {sums_of_sums}
    FROM used
    GROUP BY GROUPING SETS ((now, slot, model), (now, member_id), (now, group_id), (now, application_id))
)
SELECT CASE WHEN no_slot = 0 THEN 'model' WHEN no_member = 0 THEN 'member' WHEN no_group = 0 THEN 'group' ELSE 'application' END,
       summed.now, slot, model, coalesce(u.id, g.id, a.id), coalesce(nullif(u.name, ''), u.email, g.name, a.name),
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
    statement = _USAGE_SQL.format(
        group=f"group{level}_id",
        usage=USAGE_SQL,
        scope=scope_sql,
        filters=filter_sql,
        sums=", ".join(f"{expression}::bigint AS {name}" for name, expression in _SUMS.items()),
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
        "slots": list(period.slots),
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return _usage(cursor.fetchall(), slots=len(period.slots))


def _usage(rows: Iterable[tuple[Any, ...]], *, slots: int) -> Usage:
    total, before, by_slot = Sums(), Sums(), [Sums()] * slots
    by_model: dict[str, list[Sums]] = {}
    shares: dict[str, list[Share]] = {"member": [], "group": [], "application": []}
    for what, now, slot, model, row_id, name, *figures in rows:
        sums = Sums(*figures)
        if not now:
            before = before.plus(sums)
        elif what != "model":
            shares[what].append(Share(row_id, name or "", sums))
        else:
            total, by_slot[slot - 1] = total.plus(sums), by_slot[slot - 1].plus(sums)
            series = by_model.setdefault(model, [Sums()] * slots)
            series[slot - 1] = series[slot - 1].plus(sums)
    models = [Share(name, name, _sum(series)) for name, series in by_model.items()]
    found = {what: _most_first(share for share in found if share.id is not None) for what, found in shares.items()}
    return Usage(total, before, by_slot, by_model, _most_first(models), found["member"], found["group"], found["application"])


def _most_first(shares: Iterable[Share]) -> list[Share]:
    return sorted(shares, key=lambda share: (-share.sums.charged, -share.sums.calls, share.name))


def _sum(series: Iterable[Sums]) -> Sums:
    total = Sums()
    for sums in series:
        total = total.plus(sums)
    return total


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
