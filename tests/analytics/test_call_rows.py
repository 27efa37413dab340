"""Rows of the call log: every cell says what the call's own page says, and nothing where there is nothing."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.template.loader import render_to_string

from analytics.call_rows import NONE, CallRow, call_rows
from billing.models import UsageRecord
from orgs.models import ApiKey, Application, User

CALL_ID = UUID(int=7)


def row_of(**facts: Any) -> CallRow:
    about: dict[str, Any] = {
        "call_id": CALL_ID,
        "admitted_at": datetime(2026, 11, 3, 14, 5, 9, tzinfo=UTC),
        "api_key": ApiKey(name="<key>"),
        "member": User(email="ada@example.com"),
        "status": "ok",
        "latency_ms": 1920,
        "requested_model": "large",
        "served_model": "large",
        "provider": "p",
    }
    [row] = call_rows([UsageRecord(**{**about, **facts})], org="acme")
    return row


def shown(row: CallRow, **context: Any) -> str:
    return render_to_string("analytics/partials/_calls_table.html", {"rows": [row], **context})


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, {"caller": "ada", "key": "<key>", "application": NONE, "purpose": "", "served": "", "times": "", "error": ""}),
        ({"member": None}, {"caller": ""}),
        ({}, {"tokens_in": NONE, "tokens_out": NONE, "cost": NONE, "exact_cost": "$0", "estimated": False}),
        ({"latency_ms": None}, {"latency": "–"}),
        (
            {"input_tokens": 1000, "cache_read_tokens": 20, "cache_write_5m_tokens": 3, "cache_write_1h_tokens": 1},
            {"tokens_in": "1,024"},
        ),
        ({"output_tokens": 1056, "usage_estimated": True}, {"tokens_out": "1,056", "estimated": True}),
        ({"output_tokens": 0, "usage_estimated": True}, {"estimated": False}),
        ({"charged_nano_usd": 1_234_567_891}, {"cost": "$1.23", "exact_cost": "$1.234567891"}),
        ({"application": Application(name="Bot"), "feature": "chat"}, {"application": "Bot", "purpose": "chat"}),
        ({"application": Application(name="Bot"), "feature": "chat", "environment": "test"}, {"purpose": "chat · test"}),
        ({"application": Application(name="Bot"), "environment": "test"}, {"purpose": "test"}),
        ({"feature": "chat"}, {"purpose": ""}),
        ({"served_model": "large-2026"}, {"served": "large-2026", "served_title": "p / large-2026"}),
        ({"served_model": "s-2026", "decision": {"auto": {"model": "small"}}}, {"served": "small", "served_title": "p / s-2026"}),
        ({"served_model": "s-2026", "decision": {"auto": {"model": ""}}}, {"served": "s-2026"}),
        ({"served_model": "s-2026", "decision": {"auto": "odd"}}, {"served": "s-2026"}),
        ({"served_model": ""}, {"served": "", "served_title": ""}),
        ({"status": "refused", "error_code": "budget", "call_count": 1200}, {"tone": "bad", "error": "budget", "times": "1,200"}),
        ({}, {"reason": ""}),
        ({"status": "refused", "error_code": "budget_exceeded"}, {"reason": "Budget exceeded"}),
        ({"status": "refused", "error_code": "ip_not_allowed"}, {"reason": "IP not allowed"}),
        ({"status": "failed", "error_code": "zdr_unavailable"}, {"reason": "ZDR unavailable"}),
        (
            {"error_code": "invalid_request", "decision": {"invalid": {"member": "tools"}}},
            {"reason": "Invalid request: tools"},
        ),
        ({"error_code": "invalid_request", "decision": {"invalid": {"body": "It is no JSON."}}}, {"reason": "It is no JSON."}),
        ({"error_code": "invalid_request", "decision": {"invalid": "odd"}}, {"reason": "Invalid request"}),
        ({"error_code": "budget_exceeded", "decision": {"invalid": {"body": "x"}}}, {"reason": "Budget exceeded"}),
        (
            {"error_code": "invalid_request", "decision": {"invalid": {"member": "tools"}}, "call_count": 2},
            {"reason": "Invalid request", "times": "2"},
        ),
        (
            {"error_code": "invalid_request", "decision": {"invalid": {"body": "It is no JSON."}}, "call_count": 2},
            {"reason": "Invalid request"},
        ),
    ],
)
def test_a_cell_says(facts: dict[str, Any], said: dict[str, Any]) -> None:
    row = row_of(**facts)
    assert {name: getattr(row, name).replace("\u00a0", " ") if said[name] and isinstance(said[name], str)
            else getattr(row, name) for name in said} == said  # fmt: skip


def test_what_people_typed_is_text_in_the_table() -> None:
    page = shown(row_of(application=Application(name="<app>"), feature="<f>", requested_model="<m>", error_code="<e>"))
    for words in ("&lt;key&gt;", "&lt;app&gt;", "&lt;f&gt;", "&lt;m&gt;", 'title="&lt;e&gt;"'):
        assert words in page
    assert "Application" not in shown(row_of(), short=True).replace('class="visually-hidden"', "")


def test_a_row_leads_to_its_call() -> None:
    url = f"/o/acme/calls/{CALL_ID}/"
    assert row_of().url == url
    assert f'data-row-link href="{url}" hx-get="{url}"' in shown(row_of())
    assert "Nov 3, 14:05:09" in shown(row_of())
