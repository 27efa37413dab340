"""What groups and applications used in a period, for the pages of the app below: by the path at the time of each call."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from analytics.filters import Scope
from analytics.rollups import USAGE_SQL

MOST_LABELS = 12


class Use(NamedTuple):
    """`label` is a feature or an environment; empty: none was named."""

    label: str
    charged: int
    calls: int
    tokens: int


class ApplicationUse(NamedTuple):
    total: Use
    features: list[Use]
    environments: list[Use]


# The many rows are summed by path first; what is left is spread over the nodes of each path.
_GROUPS_SQL = """
WITH used AS MATERIALIZED (
    SELECT group0_id, group1_id, group2_id, group3_id, group4_id, sum(charged_nano_usd) AS charged
    FROM {usage} AS usage WHERE {scope} GROUP BY 1, 2, 3, 4, 5
)
SELECT node, sum(charged)::bigint
FROM used CROSS JOIN LATERAL unnest(ARRAY[group0_id, group1_id, group2_id, group3_id, group4_id]) AS node
WHERE node IS NOT NULL GROUP BY node
"""
_APPLICATIONS_SQL = """
SELECT application_id, sum(charged_nano_usd)::bigint FROM {usage} AS usage
WHERE application_id IS NOT NULL AND {scope} GROUP BY 1
"""
_APPLICATION_SQL = """
SELECT GROUPING(feature), GROUPING(environment), coalesce(feature, ''), coalesce(environment, ''),
       coalesce(sum(charged_nano_usd), 0)::bigint, coalesce(sum(calls), 0)::bigint,
       coalesce(sum(input_tokens + cache_read_tokens + cache_write_tokens + output_tokens), 0)::bigint
FROM {usage} AS usage WHERE application_id = %(application)s AND {scope}
GROUP BY GROUPING SETS ((), (feature), (environment))
"""


def spent_by_group(scope: Scope, *, since: datetime, until: datetime) -> dict[int, int]:
    """Nano-dollars charged in [since, until) of every node on a path."""
    return dict(_rows(_GROUPS_SQL, scope, since=since, until=until))


def spent_by_application(scope: Scope, *, since: datetime, until: datetime) -> dict[int, int]:
    return dict(_rows(_APPLICATIONS_SQL, scope, since=since, until=until))


def application_use(scope: Scope, *, application: int, since: datetime, until: datetime) -> ApplicationUse:
    """The dearest labels first."""
    total, features, environments = Use("", 0, 0, 0), [], []
    for no_feature, no_environment, feature, environment, *figures in _rows(
        _APPLICATION_SQL, scope, since=since, until=until, application=application
    ):
        if no_feature and no_environment:
            total = Use("", *figures)
        elif no_environment:
            features.append(Use(feature, *figures))
        else:
            environments.append(Use(environment, *figures))
    return ApplicationUse(total, _dearest(features), _dearest(environments))


def _dearest(uses: list[Use]) -> list[Use]:
    return sorted(uses, key=lambda use: (-use.charged, -use.calls, use.label))[:MOST_LABELS]


def _rows(statement: str, scope: Scope, **parameters: Any) -> list[tuple[Any, ...]]:
    condition, values = scope.sql()
    with connection.cursor() as cursor:
        cursor.execute(
            statement.format(usage=USAGE_SQL, scope=condition),
            {"organization_id": scope.organization_id, **values, **parameters},
        )
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
