"""What a test asks of the statements that were captured."""

from __future__ import annotations

import re

from django.db import connection
from django.test.utils import CaptureQueriesContext

EXECUTE = re.compile(r"EXECUTE (\w+)")


def whole(captured: CaptureQueriesContext) -> list[str]:
    """Their SQL; of one that PostgreSQL keeps under a name (gateway_project/lib/written.py), what it keeps."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, statement FROM pg_prepared_statements")
        kept = dict(cursor.fetchall())
    asked = [query["sql"] for query in captured]
    return [kept[found[1]] if (found := EXECUTE.match(sql)) else sql for sql in asked]
