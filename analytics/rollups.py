"""Rollups: the ledger summed by hour and by everything a page groups by; and how to read them without missing a call.

* **Rolling up** adds every row whose inserting transaction lies in [watermark, xmin) and moves the watermark to
  xmin, the oldest transaction still running, in one transaction under the watermark's lock (billing/buckets.py does
  the same). All transactions below xmin have ended, so none can commit a row behind the watermark: each row is
  counted exactly once, late commits later.
* **Reading** (`USAGE_SQL`) is one statement: rollups + the ledger's rows at or above the watermark. So a page is never
  behind the ledger, whether the worker runs or not, and reads no row of the ledger that is rolled up.
* **Days** are those of the organisation. Where its clock differs from UTC by whole hours, hours make up days; elsewhere
  (India, Nepal, Newfoundland …) a slot is 15 minutes, so days are exact there too. After a change of time zone between
  the two kinds, older slots that straddle midnight count for the day they begin in.
"""

from __future__ import annotations

from django.db import connection, transaction

DIMENSIONS = (
    "organization_id", "group0_id", "group1_id", "group2_id", "group3_id", "group4_id", "member_id", "api_key_id",
    "application_id", "feature", "environment", "model", "provider", "status", "preset", "complexity",
)  # fmt: skip
MEASURES = (
    "calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "charged_nano_usd", "list_nano_usd", "latency_ms_sum", "baseline_nano_usd", "compared_nano_usd", "cache_saving_nano_usd",
)  # fmt: skip

# A ledger row's own columns, where they are not named like the rollup's. Callers make up names of models that do not
# exist: those are one value here, or a loop of typing errors would make a row of each.
_EXPRESSIONS = {
    "model": "CASE WHEN u.error_code = 'model_not_found' THEN '' ELSE u.requested_model END",
    "calls": "CASE WHEN u.status = 'adjustment' THEN 0 ELSE u.call_count END",
    "cache_write_tokens": "u.cache_write_5m_tokens + u.cache_write_1h_tokens",
    "latency_ms_sum": "coalesce(u.latency_ms, 0)",
    # Of what `auto` chose a model for: whether the request was one of the half that needs a strong model less.
    "complexity": """CASE WHEN u.decision ? 'auto' THEN
        CASE WHEN (u.decision #>> '{auto,need}')::float < 0.5 THEN 'simple' ELSE 'complex' END ELSE '' END""",
    # What failed cost nobody anything, so nothing was saved with it. `compared` is the list cost of what has a baseline.
    "baseline_nano_usd": "CASE WHEN u.status = 'failed' THEN 0 ELSE coalesce(u.baseline_nano_usd, 0) END",
    "compared_nano_usd": "CASE WHEN u.status = 'failed' OR u.baseline_nano_usd IS NULL THEN 0 ELSE u.list_nano_usd END",
    "cache_saving_nano_usd": "CASE WHEN u.status = 'failed' THEN 0 ELSE u.cache_saving_nano_usd END",
}
_COLUMNS = ", ".join(f"{_EXPRESSIONS.get(name, f'u.{name}')} AS {name}" for name in (*DIMENSIONS, *MEASURES))

# 15 minutes where the local clock is not a whole number of hours away from UTC at that moment.
_SLOT = """date_bin(
    CASE WHEN extract(minute FROM (u.recorded_at AT TIME ZONE o.time_zone) - (u.recorded_at AT TIME ZONE 'UTC')) = 0
         THEN interval '1 hour' ELSE interval '15 minutes' END,
    u.recorded_at, 'epoch'
)"""

# The watermark row is locked by a statement before this one, so that this one's snapshot is newer than the lock.
_ROLL_UP_SQL = f"""
WITH bounds AS MATERIALIZED (
    SELECT transaction_id AS low, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS high
    FROM analytics_rollupwatermark WHERE id = 1
), advanced AS (
    UPDATE analytics_rollupwatermark SET transaction_id = high FROM bounds WHERE id = 1 AND high > low
), fresh AS (
    SELECT {_SLOT} AS hour, {_COLUMNS}
    FROM billing_usagerecord u JOIN orgs_organization o ON o.id = u.organization_id
    WHERE u.transaction_id >= (SELECT low FROM bounds) AND u.transaction_id < (SELECT high FROM bounds)
), rolled AS (
    INSERT INTO analytics_usagerollup (hour, {", ".join(DIMENSIONS)}, {", ".join(MEASURES)})
    SELECT hour, {", ".join(DIMENSIONS)}, {", ".join(f"sum({name})" for name in MEASURES)}
    FROM fresh GROUP BY hour, {", ".join(DIMENSIONS)}
    ON CONFLICT ({", ".join(("hour", *DIMENSIONS))}) DO UPDATE SET
        {", ".join(f"{name} = analytics_usagerollup.{name} + excluded.{name}" for name in MEASURES)}
    RETURNING 1
)
SELECT low, high, (SELECT count(*) FROM rolled) FROM bounds
"""  # noqa: S608

# The usage of an organisation in [since, until) as rows of (at, dimensions, measures), for a FROM clause: what is rolled up,
# what is not yet, and both. `at` is the slot's beginning, or the moment a row not rolled up yet was recorded. Parameters:
# organization_id, since, until. Whoever sums much sums each part first: their rows need not pass through the union then.
ROLLED_UP_SQL = f"""(
    SELECT hour AS at, {", ".join((*DIMENSIONS, *MEASURES))} FROM analytics_usagerollup
    WHERE organization_id = %(organization_id)s AND hour >= %(since)s AND hour < %(until)s
)"""  # noqa: S608
FRESH_SQL = f"""(
    SELECT u.recorded_at AS at, {_COLUMNS} FROM billing_usagerecord u
    WHERE u.organization_id = %(organization_id)s AND u.recorded_at >= %(since)s AND u.recorded_at < %(until)s
      AND u.transaction_id >= (SELECT transaction_id FROM analytics_rollupwatermark WHERE id = 1)
)"""  # noqa: S608
USAGE_SQL = f"({ROLLED_UP_SQL} UNION ALL {FRESH_SQL})"


class LedgerBehind(RuntimeError):
    """The cluster's transaction counter is below the watermark: the database was moved here without it."""


def roll_up_usage() -> int:
    """Adds finished ledger rows to the rollups → rollups touched. Safe to run at any time, by any number."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT transaction_id FROM analytics_rollupwatermark WHERE id = 1 FOR UPDATE")
        cursor.execute(_ROLL_UP_SQL)
        low, high, touched = cursor.fetchone()
    if high < low:
        raise LedgerBehind(f"the watermark is transaction {low}, this cluster has only reached {high}: see analytics/README.md")
    return int(touched)


@transaction.atomic
def rebuild_rollups() -> int:
    """Throws all rollups away and makes them anew from the ledger → rollups made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT transaction_id FROM analytics_rollupwatermark WHERE id = 1 FOR UPDATE")
        cursor.execute("DELETE FROM analytics_usagerollup")
        cursor.execute("UPDATE analytics_rollupwatermark SET transaction_id = 0 WHERE id = 1")
    return roll_up_usage()
