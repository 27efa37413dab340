"""Tables of a long run are swept between its files: servers of tests have no autovacuum (gateway_project/embedded/postgres.py).

What tests took back stays in the tables until then. Every statement reads it, and is planned as if nothing were there: with
two thousand tests behind them, some took four times as long in PostgreSQL.
"""

from __future__ import annotations

import psycopg
from psycopg.errors import LockNotAvailable, UndefinedTable

# Below that, reading all of it costs less than sweeping; above, a table is swept again once it has grown by half.
LEAST_BYTES, GROWTH = 128 * 1024, 1.5
TABLES = (
    "SELECT oid::regclass::text, pg_relation_size(oid) FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'pg_catalog'::regnamespace)"
)


class Sweeper:
    """Of one database. Its connection stays open from its first sweep on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._sizes: dict[str, int] = {}  # as they were left

    def sweep(self) -> list[str]:
        """The tables that were: those grown that nobody has locked."""
        try:
            swept = [
                name for name, size in self._tables() if size > self._sizes.get(name, LEAST_BYTES) * GROWTH and self._swept(name)
            ]
            if swept:
                self._sizes.update((name, max(size, LEAST_BYTES)) for name, size in self._tables() if name in swept)
        except psycopg.OperationalError:  # a test ended the server's sessions, or the server
            self.close()
            return []
        return swept

    def _swept(self, name: str) -> bool:
        try:
            self._open().execute(f"VACUUM (ANALYZE) {name}".encode())
        except (LockNotAvailable, UndefinedTable):  # one that a test holds, or has dropped since
            return False
        return True

    def _tables(self) -> list[tuple[str, int]]:
        return self._open().execute(TABLES).fetchall()

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, options="-c lock_timeout=200ms")
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
