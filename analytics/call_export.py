"""The call log as a file: one line for each row of the ledger, newest first, amounts exact to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from billing.models import UsageRecord
from gateway_project.lib.exports import csv_lines, harmless
from gateway_project.lib.money import exact_usd
from orgs.models import Group, Organization

BATCH = 2_000
PATH = tuple(f"group{level}_id" for level in range(5))
# Of the ledger, by the names that they have in the file.
NAMES = {
    "member": "member__name", "member_email": "member__email", "api_key": "api_key__name", "application": "application__name",
    "feature": "feature", "environment": "environment", "model": "requested_model", "served_by": "served_model",
    "provider": "provider", "status": "status", "error": "error_code",
}  # fmt: skip
NUMBERS = (
    "call_count", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
    "reasoning_tokens", "latency_ms",
)  # fmt: skip
COLUMNS = ("call_id", "admitted_at", "group", *NAMES, *NUMBERS, "cost_usd")
_FIELDS = ("pk", "admitted_at", "charged_nano_usd", *PATH, *NAMES.values(), *NUMBERS)


def parts(calls: QuerySet[UsageRecord], *, organization: Organization) -> Iterator[str]:
    """By ids, not by a cursor: a reader who is slow must not hold a transaction open."""
    yield csv_lines([COLUMNS])
    groups = dict(Group.objects.filter(organization=organization).values_list("pk", "name"))
    last: Any = None
    while True:
        older = calls if last is None else calls.filter(pk__lt=last)
        rows = list(older.order_by("-pk").values_list(*_FIELDS)[:BATCH])
        if not rows:
            return
        yield csv_lines(_cells(row, groups) for row in rows)
        last = rows[-1][0]


def _cells(row: tuple[Any, ...], groups: dict[int, str]) -> list[object]:
    path, names, numbers = row[3:8], row[8 : 8 + len(NAMES)], row[8 + len(NAMES) :]
    where = " / ".join(groups.get(group, "") for group in path if group is not None)
    charged = exact_usd(row[2])
    return [row[0], row[1].isoformat(), harmless(where), *map(harmless, names), *numbers, charged]
