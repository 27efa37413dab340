"""How many calls of a subject the ledger knows since a moment: what limits of requests per day begin from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway_project.lib import ids

# Calls that were let through, by the time of their admission (the id holds it). Refusals and bookings are none.
CALLS_SQL = """
SELECT coalesce(sum(call_count), 0)::bigint AS calls FROM billing_usagerecord
WHERE organization_id = %(organization_id)s AND call_id >= %(since)s AND status NOT IN ('refused', 'adjustment')
  AND (%(group)s::bigint IS NULL OR %(group)s::bigint IN (group1_id, group2_id, group3_id, group4_id))
  AND (%(member)s::bigint IS NULL OR member_id = %(member)s::bigint)
  AND (%(key)s::bigint IS NULL OR api_key_id = %(key)s::bigint)
  AND (%(application)s::bigint IS NULL OR application_id = %(application)s::bigint)
"""
COLUMNS = {"g": "group", "m": "member", "k": "key", "a": "application"}


def calls_parameters(organization_id: int, *, subject: str, since_ms: int) -> dict[str, Any]:
    """Parameters of CALLS_SQL. `subject` as in billing/buckets.py; `org` and `pool` mean the whole organisation."""
    since = ids.first_id_at(datetime.fromtimestamp(since_ms / 1000, tz=UTC))
    wanted: dict[str, Any] = {"organization_id": organization_id, "since": since, **dict.fromkeys(COLUMNS.values())}
    if subject[0] in COLUMNS and subject[1:].isdigit():
        wanted[COLUMNS[subject[0]]] = int(subject[1:])
    return wanted
