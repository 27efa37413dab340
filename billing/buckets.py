"""Spend by subject: quarter-hour buckets of the ledger, and exact sums of buckets and rows not yet in them.

Subjects of a row: `org`, `g<id>` for each group of levels 1–4, `m<user id>`, `k<key id>`,
`a<application id>`, and `pool`, which list cost never reaches. What calls on own provider keys (BYOK) cost by the list is
summed apart: budgets count it only where they say so.

* **Closing** adds every row whose inserting transaction lies in [watermark, xmin) to its buckets and moves
  the watermark to xmin, the oldest transaction still running, in one transaction under the watermark's
  lock. All transactions below xmin have ended, so none can commit a row behind the watermark: each row is
  counted exactly once, late commits later.
* **Reading** is one statement, so figures and snapshot belong together: buckets + rows at or above the
  watermark. Whoever keeps the snapshot with the figures can tell for ever which transactions they contain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction

from billing.rows import OWN

BUCKET_MINUTES = 15

# One row of the ledger as (subject, charged, list, own) rows. Only alias u and integer columns are interpolated.
_VALUES = ", ".join(
    f"({subject}, u.charged_nano_usd, u.list_nano_usd, {OWN})"
    for subject in (
        "'org'",
        *(f"'g' || u.group{level}_id" for level in range(1, 5)),
        "'m' || u.member_id",
        "'k' || u.api_key_id",
        "'a' || u.application_id",
    )
)
_POOL = "('pool', u.charged_nano_usd, 0::bigint, 0::bigint)"
_SUBJECTS = f"CROSS JOIN LATERAL (VALUES {_POOL}, {_VALUES}) AS s (subject, charged, list, own)"

# The watermark row is locked by a statement before this one, so that this one's snapshot is newer than the lock.
_CLOSE_SQL = f"""
WITH bounds AS MATERIALIZED (
    SELECT transaction_id AS low, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS high
    FROM billing_spendwatermark WHERE id = 1
), advanced AS (
    UPDATE billing_spendwatermark SET transaction_id = high FROM bounds WHERE id = 1 AND high > low
), closed AS (
    INSERT INTO billing_spendbucket (organization_id, subject, starts_at, charged_nano_usd, list_nano_usd, own_nano_usd, calls)
    SELECT u.organization_id, s.subject, date_bin('{BUCKET_MINUTES} minutes', u.recorded_at, 'epoch'),
           sum(s.charged), sum(s.list), sum(s.own), coalesce(sum(u.call_count) FILTER (WHERE u.status <> 'adjustment'), 0)
    FROM billing_usagerecord u {_SUBJECTS}
    WHERE u.transaction_id >= (SELECT low FROM bounds) AND u.transaction_id < (SELECT high FROM bounds)
      AND s.subject IS NOT NULL AND (s.charged <> 0 OR s.list <> 0)
    GROUP BY 1, 2, 3
    ON CONFLICT (organization_id, subject, starts_at) DO UPDATE SET
        charged_nano_usd = billing_spendbucket.charged_nano_usd + excluded.charged_nano_usd,
        list_nano_usd = billing_spendbucket.list_nano_usd + excluded.list_nano_usd,
        own_nano_usd = billing_spendbucket.own_nano_usd + excluded.own_nano_usd,
        calls = billing_spendbucket.calls + excluded.calls
    RETURNING 1
)
SELECT low, high, (SELECT count(*) FROM closed) FROM bounds
"""  # noqa: S608

# Rows: subject, segment, charged, list, own, snapshot. Segment k holds what was recorded from the k-th start on and
# before the next; a subject without spend has one row of nulls. Parameters: `spend_parameters`.
SPEND_SQL = f"""
WITH sums AS (
    SELECT subject, width_bucket(at, %(starts)s::timestamptz[]) AS segment,
           sum(charged)::bigint AS charged, sum(list)::bigint AS list, sum(own)::bigint AS own
    FROM (
        SELECT subject, starts_at AS at, charged_nano_usd AS charged, list_nano_usd AS list, own_nano_usd AS own
        FROM billing_spendbucket
        WHERE organization_id = %(organization_id)s AND subject = ANY(%(subjects)s::text[])
        UNION ALL
        SELECT s.subject, u.recorded_at, s.charged, s.list, s.own
        FROM billing_usagerecord u {_SUBJECTS}
        WHERE u.organization_id = %(organization_id)s AND s.subject = ANY(%(subjects)s::text[])
          AND u.transaction_id >= (SELECT transaction_id FROM billing_spendwatermark WHERE id = 1)
          AND (s.charged <> 0 OR s.list <> 0)
    ) AS spend
    GROUP BY 1, 2
)
SELECT asked.subject, sums.segment, sums.charged, sums.list, sums.own, pg_current_snapshot()::text AS snapshot
FROM unnest(%(subjects)s::text[]) AS asked (subject) LEFT JOIN sums USING (subject)
"""  # noqa: S608


# For pages, which ask for windows that are running: rows of subject, then charged and own of each window, twice where part
# of it is not in buckets yet. Buckets before all windows are read only of subjects that are asked for ever.
_SINCE_SQL = f"""
SELECT subject, {{closed}}
FROM billing_spendbucket
WHERE organization_id = %(organization_id)s AND subject = ANY(%(subjects)s::text[])
  AND (starts_at >= %(first)s::timestamptz OR subject = ANY(%(ever)s::text[]))
GROUP BY 1
UNION ALL
SELECT s.subject, {{late}}
FROM billing_usagerecord u {_SUBJECTS}
WHERE u.organization_id = %(organization_id)s AND s.subject = ANY(%(subjects)s::text[])
  AND u.transaction_id >= (SELECT transaction_id FROM billing_spendwatermark WHERE id = 1)
  AND (s.charged <> 0 OR s.list <> 0)
GROUP BY 1
"""  # noqa: S608

# A subject, and since when (None: ever).
Window = tuple[str, datetime | None]


class LedgerBehind(RuntimeError):
    """The cluster's transaction counter is below the watermark: the database was moved here without it."""


class Spend(NamedTuple):
    """Nano-dollars. `own`: the part of the list cost that calls on own provider keys had."""

    charged: int = 0
    list: int = 0
    own: int = 0

    def plus(self, other: Spend) -> Spend:
        return Spend(self.charged + other.charged, self.list + other.list, self.own + other.own)

    def minus(self, other: Spend) -> Spend:
        return Spend(self.charged - other.charged, self.list - other.list, self.own - other.own)

    def counted(self, *, byok: bool) -> int:
        """By a budget that counts calls on own provider keys, or one that does not."""
        return self.charged + self.own if byok else self.charged


class SpendSums(NamedTuple):
    """`lifetime` by subject; `before` by (subject, start): what was recorded before that start.

    `snapshot` (text of pg_snapshot) says which transactions are in: `pg_visible_in_snapshot(xid8, snapshot)`.
    """

    snapshot: str
    lifetime: dict[str, Spend]
    before: dict[tuple[str, datetime], Spend]


def close_spend_buckets() -> int:
    """Moves finished ledger rows into the buckets → buckets touched. Safe to run at any time, by any number."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT transaction_id FROM billing_spendwatermark WHERE id = 1 FOR UPDATE")
        cursor.execute(_CLOSE_SQL)
        low, high, touched = cursor.fetchone()
    if high < low:
        raise LedgerBehind(
            f"the watermark is transaction {low}, this cluster has only reached {high}: see billing/README.md, Failure"
        )
    return int(touched)


def spend_parameters(organization_id: int, *, subjects: Collection[str], starts: Iterable[datetime]) -> dict[str, Any]:
    """Parameters of SPEND_SQL. Raises ValueError for a start that is not on a quarter of an hour (UTC)."""
    return {"organization_id": organization_id, "subjects": sorted(set(subjects)), "starts": _ascending(starts)}


def _ascending(starts: Iterable[datetime]) -> list[datetime]:
    found = sorted(set(starts))
    for start in found:
        if start.timestamp() % (BUCKET_MINUTES * 60):
            raise ValueError(f"{start.isoformat()} does not begin a quarter of an hour")
    return found


def sums_from_rows(rows: Sequence[Mapping[str, Any]], *, starts: Iterable[datetime]) -> SpendSums:
    """The answer of SPEND_SQL, rows as mappings by column."""
    spend = {
        (row["subject"], row["segment"]): Spend(row["charged"], row["list"], row["own"])
        for row in rows
        if row["segment"] is not None
    }
    lifetime, before = {}, {}
    ascending = sorted(set(starts))
    for subject in {row["subject"] for row in rows}:
        running = spend.get((subject, 0), Spend())
        for segment, start in enumerate(ascending, 1):
            before[subject, start] = running
            running = running.plus(spend.get((subject, segment), Spend()))
        lifetime[subject] = running
    return SpendSums(rows[0]["snapshot"] if rows else "", lifetime, before)


def spend_sums(organization_id: int, *, subjects: Collection[str], starts: Iterable[datetime] = ()) -> SpendSums:
    """Lifetime spend of each subject, and its spend before each start, all of one snapshot."""
    parameters = spend_parameters(organization_id, subjects=subjects, starts=starts)
    with connection.cursor() as cursor:
        cursor.execute(SPEND_SQL, parameters)
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    return sums_from_rows(rows, starts=parameters["starts"])


def spent_since(organization_id: int, windows: Collection[Window]) -> dict[Window, Spend]:
    """What each subject has spent in its windows up to now, all of one snapshot; list cost is not summed.

    Raises ValueError for a start that is not on a quarter of an hour (UTC).
    """
    starts = _ascending(start for _, start in windows if start is not None)
    columns: list[datetime | None] = [None, *starts]
    parameters = {
        "organization_id": organization_id,
        "subjects": sorted({subject for subject, _ in windows}),
        "ever": [subject for subject, start in windows if start is None],
        "first": starts[0] if starts else None,
        **{f"start{number}": start for number, start in enumerate(columns) if start is not None},
    }
    statement = _SINCE_SQL.format(
        closed=_sums_since(columns, "starts_at", "charged_nano_usd", "own_nano_usd"),
        late=_sums_since(columns, "u.recorded_at", "s.charged", "s.own"),
    )
    spent: dict[Window, Spend] = dict.fromkeys(windows, Spend())
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        for subject, *figures in cursor.fetchall():
            for start, charged, own in zip(columns, figures[::2], figures[1::2], strict=True):
                if (subject, start) in spent:
                    spent[subject, start] = spent[subject, start].plus(Spend(charged=charged, own=own))
    return spent


def _sums_since(starts: Iterable[datetime | None], at: str, *amounts: str) -> str:
    """Columns; `starts` by their numbers."""
    conditions = ("" if start is None else f" FILTER (WHERE {at} >= %(start{n})s)" for n, start in enumerate(starts))
    return ", ".join(f"coalesce(sum({amount}){condition}, 0)::bigint" for condition in conditions for amount in amounts)
