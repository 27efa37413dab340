"""What a replay reads of the ledger: what was spent before the period, and the period's rows in the order of admission.

Rows come in pages by the index on the organisation and the call's id: memory does not grow with the period, and no
transaction stays open (one would keep spend buckets from closing, billing/README.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from django.db import connection, transaction

from billing.rows import OWN
from gateway_project.lib.ids import first_id_at
from guardrails import windows
from proxy.simulating.replay import Path, Row

PAGE = 10_000
# How much later than its admission a row may be recorded: a spool is drained when PostgreSQL is back.
LATEST = timedelta(days=32)

_PATH = "group0_id, group1_id, group2_id, group3_id, group4_id, member_id, api_key_id, application_id"
# What was refused at the time spent nothing, and what it would have cost nobody knows.
_WHERE = "organization_id = %(organization_id)s AND call_id >= %(since)s AND call_id < %(until)s AND status <> 'refused'"
# In the order in which they would have been tried. A row names them where there was a choice; else one could only go to its own.
_PROVIDERS = """coalesce(CASE WHEN decision ? 'order' THEN (
    SELECT string_agg(place ->> 0, chr(10) ORDER BY number)
    FROM jsonb_array_elements(decision -> 'order') WITH ORDINALITY AS places(place, number)
    WHERE place ->> 2 <> 'fallback model') END, provider)"""
_ROWS_SQL = f"""
SELECT call_id, floor(extract(epoch FROM recorded_at))::bigint, charged_nano_usd,
       input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens, output_tokens,
       status <> 'adjustment', requested_model, {OWN}, latency_ms, {{providers}}, {_PATH}
FROM billing_usagerecord WHERE {_WHERE} ORDER BY call_id LIMIT {PAGE}
"""  # noqa: S608
COUNT_SQL = f"SELECT count(*) FROM billing_usagerecord WHERE {_WHERE}"  # noqa: S608
DAYS_SQL = """
SELECT count(*) FROM unnest(%(begins)s::uuid[], %(ends)s::uuid[]) AS day (since, until) WHERE EXISTS (
    SELECT FROM billing_usagerecord
    WHERE organization_id = %(organization_id)s AND call_id >= day.since AND call_id < day.until AND status <> 'refused'
)
"""
# Segment k holds what was recorded from the k-th start on and before the next.
BEFORE_SQL = f"""
SELECT width_bucket(recorded_at, %(starts)s::timestamptz[]) AS segment, sum(charged_nano_usd)::bigint, sum({OWN})::bigint, {_PATH}
FROM billing_usagerecord
WHERE {_WHERE} AND (charged_nano_usd <> 0 OR byok) AND (%(recorded)s::timestamptz IS NULL OR recorded_at >= %(recorded)s)
GROUP BY segment, {_PATH}
"""  # noqa: S608


class Period(NamedTuple):
    """Calls admitted in [starts_at, ends_at) of one organisation."""

    organization_id: int
    starts_at: datetime
    ends_at: datetime


def count(period: Period) -> int:
    with connection.cursor() as cursor:
        cursor.execute(COUNT_SQL, _parameters(period))
        return int(cursor.fetchone()[0])


def days_with_calls(period: Period, *, starts: Iterable[datetime]) -> int:
    """How many of the period's days have any. `starts`: where its days begin. One look into the index for each."""
    begins = sorted(starts)
    parameters: dict[str, Any] = {
        "organization_id": period.organization_id,
        "begins": [first_id_at(start) for start in begins],
        "ends": [first_id_at(end) for end in [*begins[1:], period.ends_at]],
    }
    with connection.cursor() as cursor:
        cursor.execute(DAYS_SQL, parameters)
        return int(cursor.fetchone()[0])


def pages(period: Period, *, with_providers: bool) -> Iterator[list[Row]]:
    """`with_providers`: who could have taken each call; else nothing is said of it, which is read faster."""
    parameters, statement = _parameters(period), page_sql(with_providers=with_providers)
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            found = cast(list[Row], cursor.fetchall())
        if found:
            yield found
        if len(found) < PAGE:
            return
        parameters["since"] = _next(found[-1])


def spent_before(
    period: Period, *, kinds: Iterable[windows.Kind], calendar: windows.Calendar
) -> Iterator[tuple[Path, int, int, int]]:
    """(path, second, nano-dollars charged, and cost on own provider keys) of calls admitted before the period, for every window
    of these kinds that it touches.

    Sums: the second is one in the windows that they count in.
    """
    wanted = list(kinds)
    if not wanted:
        return
    starts = _starts(period, wanted, calendar)
    everything = "total" in wanted
    parameters: dict[str, Any] = {
        "organization_id": period.organization_id,
        "since": first_id_at(datetime.fromtimestamp(0, tz=UTC) if everything else starts[0] - LATEST),
        "until": first_id_at(period.starts_at),
        "recorded": None if everything else starts[0],
        "starts": starts,
    }
    seconds = [int(start.timestamp()) for start in starts]
    with transaction.atomic(), connection.cursor() as cursor:
        # All of the ledger, for a budget in total: more than a page may take.
        cursor.execute("SET LOCAL statement_timeout = '300s'")
        cursor.execute(BEFORE_SQL, parameters)
        for segment, charged, own, *path in cursor:
            yield tuple(path), seconds[segment - 1] if segment else seconds[0] - 1, charged, own


def _starts(period: Period, kinds: list[windows.Kind], calendar: windows.Calendar) -> list[datetime]:
    """Where windows begin: those that run when the period does, and later ones, as a row may be recorded late."""
    running = [windows.containing(period.starts_at, kind, calendar).starts_at for kind in kinds]
    later = (windows.starts_between(period.starts_at, period.starts_at + LATEST, kind, calendar) for kind in kinds)
    return sorted(
        {period.starts_at, *(start for start in running if start is not None), *(at for found in later for at in found)}
    )


def page_sql(*, with_providers: bool) -> str:
    return _ROWS_SQL.format(providers=_PROVIDERS if with_providers else "''")


def _parameters(period: Period) -> dict[str, Any]:
    return {
        "organization_id": period.organization_id,
        "since": first_id_at(period.starts_at),
        "until": first_id_at(period.ends_at),
    }


def _next(row: Row) -> str:
    """The smallest id after this row's."""
    return f"{row[0].int + 1:032x}"
