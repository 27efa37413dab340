"""Ledger rows for tests of what reads them: attribution as a real key would give it, at any moment."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from django.db import connection
from django.utils import timezone
from psycopg import sql

from billing.ledger import Attempt, Row
from gateway_project.lib.ids import first_id_at, time_of
from gateway_project.lib.money import cost_of
from orgs.models import ApiKey

_COLUMNS = sql.SQL(", ").join(sql.Identifier(name) for name in Row.__struct_fields__)
_INSERT = sql.SQL(
    "INSERT INTO billing_usagerecord ({columns}, transaction_id) "
    "SELECT {columns}, pg_current_xact_id()::text::bigint FROM json_populate_recordset(NULL::billing_usagerecord, %s::json)"
)
# Only where a partition is missing: asking for one locks the ledger for as long as the test's transaction lasts.
_MAKE_MONTHS = (
    "SELECT billing_ensure_partition(month) FROM unnest(%s::date[]) AS month"
    " WHERE to_regclass('billing_usagerecord' || to_char(month, '_YYYY_MM')) IS NULL"
)
_INSERT_ATTEMPTS = "INSERT INTO billing_callattempt SELECT * FROM json_populate_recordset(NULL::billing_callattempt, %s::json)"


def call_row(key: ApiKey, *, at: datetime | None = None, **fields: Any) -> Row:
    """A completed call of this key, admitted `at`: 1,000 tokens in, 500 out, at $1 and $4 per million, unless said otherwise."""
    at = at or timezone.now()
    path = {f"group{level}_id": node.pk for level, node in enumerate(key.group.path())}
    tokens = {name: fields.pop(name, default) for name, default in (("input_tokens", 1000), ("output_tokens", 500))}
    row = Row(
        call_id=UUID(int=first_id_at(at).int | secrets.randbits(60)),
        admitted_at=at,
        organization_id=key.organization_id,
        member_id=key.member_id,
        api_key_id=key.pk,
        application_id=key.application_id,
        environment=key.environment,
        protocol="chat_completions",
        status="ok",
        http_status=200,
        requested_model="sandbox-standard",
        served_model="sandbox-standard",
        provider="sandbox",
        route_reason="only",
        latency_ms=1200,
        first_token_ms=300,
        finish_reason="stop",
        attempt_count=1,
        **{**path, **tokens},
    )
    _bill(row, input_price=fields.pop("input_price", 1_000_000_000), output_price=fields.pop("output_price", 4_000_000_000))
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def insert_calls(*rows: Row, recorded_at: datetime | None = None, into: psycopg.Connection[Any] | None = None) -> list[UUID]:
    """Writes them in one transaction, recorded when they were admitted unless `recorded_at` says otherwise → their ids.

    A fixed date lies further back with every month that passes: its partition is made where the schema has none.
    """
    text = msgspec.json.encode(
        [{**msgspec.to_builtins(row), "recorded_at": (recorded_at or row.admitted_at).isoformat()} for row in rows]
    ).decode()
    statement = _INSERT.format(columns=_COLUMNS)
    months = sorted({time_of(row.call_id).date().replace(day=1) for row in rows})
    if into is not None:
        into.execute(_MAKE_MONTHS, (months,))
        into.execute(statement, (text,))
    else:
        with connection.cursor() as cursor:
            cursor.execute(_MAKE_MONTHS, (months,))
            cursor.execute(statement.as_string(connection.connection), (text,))
    return [row.call_id for row in rows]


def insert_attempts(*attempts: Attempt) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_ATTEMPTS, (msgspec.json.encode(attempts).decode(),))


def a_call(key: ApiKey, *, at: datetime | None = None, **fields: Any) -> UUID:
    """One row, written at once."""
    return insert_calls(call_row(key, at=at, **fields))[0]


def refused_row(key: ApiKey, *, at: datetime | None = None, **fields: Any) -> Row:
    """A call that a budget of the key refused."""
    decision = {
        "level": "key", "node": key.name, "policy": "Limits", "window": "month",
        "limit": "0.01", "spent": "0.0099", "held": "0", "resets_at": None,
    }  # fmt: skip
    nothing = {
        "input_tokens": 0, "output_tokens": 0, "served_model": "", "provider": "", "route_reason": "", "attempt_count": 0,
        "first_token_ms": None, "finish_reason": "", "unit_prices": {}, "cost_parts": {}, "latency_ms": 2,
    }  # fmt: skip
    row = call_row(key, at=at, **nothing, status="refused", http_status=403, error_code="budget_exceeded", decision=decision)
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def _bill(row: Row, *, input_price: int, output_price: int) -> None:
    counts = {"input": (row.input_tokens, input_price), "output": (row.output_tokens, output_price)}
    row.unit_prices = {kind: price for kind, (tokens, price) in counts.items() if tokens}
    row.cost_parts = {kind: cost_of(tokens, price) for kind, (tokens, price) in counts.items() if tokens}
    row.charged_nano_usd = row.list_nano_usd = sum(row.cost_parts.values())
    row.reserved_nano_usd = row.charged_nano_usd * 3
