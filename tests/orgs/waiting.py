"""For tests of two changes at the same moment: when the other one has come to a lock."""

from django.db import connection


def wait_until_somebody_waits() -> None:
    """For a lock that this connection holds."""
    waiting = "SELECT pg_sleep(0.01), count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    with connection.cursor() as cursor:
        for _ in range(3000):
            cursor.execute(waiting)
            if cursor.fetchone()[1]:
                return
    raise AssertionError("nobody waited")
