"""Ledger rows for tests of what is built on them, written the way the ledger writes them."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
from django.db import connection

from billing.buckets import close_spend_buckets
from gateway_project.lib import database
from gateway_project.lib.ids import new_call_id
from orgs.models import Organization

INSERT = """
INSERT INTO billing_usagerecord (
    call_id, admitted_at, recorded_at, transaction_id, organization_id, group0_id, group1_id, group2_id, member_id,
    api_key_id, application_id, feature, environment, protocol, streamed, requested_model, served_model, provider,
    route_reason, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens,
    reasoning_tokens, usage_estimated, unit_prices, cost_parts, charged_nano_usd, list_nano_usd, byok, absorbed_nano_usd,
    reserved_nano_usd, status, http_status, error_code, finish_reason, attempt_count, call_count, decision
) VALUES (
    %(call_id)s, now(), coalesce(%(recorded_at)s::timestamptz, now()), pg_current_xact_id()::text::bigint,
    %(organization_id)s, 1, %(group1_id)s, %(group2_id)s, %(member_id)s, %(api_key_id)s, %(application_id)s, '', '',
    'chat_completions', false, 'm', 'm', 'p', '', 0, 0, 0, 0, 0, 0, false, '{}', '{}', %(charged)s, %(list)s, %(byok)s, 0, 0,
    %(status)s, 200, '', '', 1, 1, '{}'
)
"""


def new_organization(**fields: Any) -> Organization:
    """A fresh one for each test: rows that tests commit are never deleted."""
    return Organization.objects.create(name="Acme", slug=f"acme-{uuid4().hex[:12]}", **fields)


def other_connection() -> psycopg.Connection[Any]:
    """A second session on the tests' database; the caller commits."""
    return psycopg.connect(database.conninfo())


def insert(organization_id: int, *, into: psycopg.Connection[Any] | None = None, **fields: Any) -> UUID:
    """One row; `charged` and `list` in nano-dollars (list defaults to charged).

    Committed rows stay, so the ids in them are beyond those of any row that a test makes and deletes.
    """
    values = {
        "call_id": new_call_id(),
        "recorded_at": None,
        "organization_id": organization_id,
        "group1_id": None,
        "group2_id": None,
        "member_id": None,
        "api_key_id": 9_000_001,
        "application_id": None,
        "charged": 0,
        "list": fields.get("charged", 0),
        "byok": False,
        "status": "ok",
        **fields,
    }
    if into is not None:
        into.execute(INSERT, values)
    else:
        with connection.cursor() as cursor:
            cursor.execute(INSERT, values)
    call_id: UUID = values["call_id"]
    return call_id


def close_everything(close: Callable[[], object] = close_spend_buckets) -> None:
    """Closes the buckets over every row there is; waits for other sessions of the cluster, which bound the watermark."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        (beyond,) = cursor.fetchone()
        for _ in range(200):
            close()
            cursor.execute("SELECT transaction_id FROM billing_spendwatermark WHERE id = 1")
            if cursor.fetchone()[0] >= beyond:
                return
            time.sleep(0.1)
    raise AssertionError("a transaction of another session stayed open for 20 seconds")
