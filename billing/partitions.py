"""The ledger's monthly partitions, made ahead of time. A row whose month has none would be refused."""

from datetime import datetime

from django.db import connection, transaction

MONTHS_BEFORE = 1
MONTHS_AHEAD = 2


def ensure_partitions(*, around: datetime) -> None:
    """Makes the partitions from last month to the month after next that are missing."""
    with transaction.atomic(), connection.cursor() as cursor:
        # A new partition locks the whole ledger for an instant. Where that must wait, calls would wait
        # behind it: give up instead, and let the next hour try again.
        cursor.execute("SET LOCAL lock_timeout = '2s'")
        cursor.execute(
            "SELECT billing_ensure_partition((%s AT TIME ZONE 'UTC' + make_interval(months => distance))::date)"
            " FROM generate_series(%s, %s) AS distance",
            [around, -MONTHS_BEFORE, MONTHS_AHEAD],
        )
