"""Rows that are deleted when their time is over, in small transactions: nobody waits for a long one."""

from __future__ import annotations

from django.db import connection

BATCH = 1000


def forget(statement: str, *, batch: int = BATCH) -> int:
    """Runs a DELETE of at least `%(batch)s` rows, where there are so many, until there are fewer → how many in all."""
    forgotten = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, {"batch": batch})
            deleted: int = cursor.rowcount
        forgotten += deleted
        if deleted < batch:
            return forgotten
