"""Rows of the call log, put together here: the table has fifty of them, and a template asks for each part of each one anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.urls import reverse
from django.utils.safestring import mark_safe

from analytics.reasons import reason_of
from billing.models import UsageRecord
from orgs.templatetags.console import count, duration, moment, tone_of, usd, usd_exact

NONE = mark_safe('<span class="text-secondary">–</span>')


class CallRow(NamedTuple):
    """Texts as they stand in the cells, `NONE` where there is nothing to say; `caller` is empty for a service key."""

    url: str
    time: str
    caller: str
    key: str
    application: str
    purpose: str
    model: str
    # Empty where what was asked for has answered: what else has, and its provider and name.
    served: str
    served_title: str
    tokens_in: str
    tokens_out: str
    estimated: bool
    cost: str
    exact_cost: str
    latency: str
    status: str
    tone: str
    error: str
    reason: str
    # Of a refused loop, which is one row; else empty.
    times: str


def call_rows(calls: Iterable[UsageRecord], *, org: str) -> list[CallRow]:
    return [_row(call, reverse("analytics:call", kwargs={"org": org, "call_id": call.call_id})) for call in calls]


def _row(call: UsageRecord, url: str) -> CallRow:
    other = call.requested_model and call.served_model and call.served_model != call.requested_model
    return CallRow(
        url=url,
        time=moment(call.admitted_at),
        caller=call.member.display_name if call.member else "",
        key=call.api_key.name,
        application=call.application.name if call.application else NONE,
        purpose=" · ".join(filter(None, (call.feature, call.environment))) if call.application else "",
        model=call.requested_model,
        served=_chosen(call) if other else "",
        served_title=f"{call.provider} / {call.served_model}" if other else "",
        tokens_in=count(call.input_total) if call.input_total else NONE,
        tokens_out=count(call.output_tokens) if call.output_tokens else NONE,
        estimated=bool(call.output_tokens and call.usage_estimated),
        cost=usd(call.charged_nano_usd) if call.charged_nano_usd else NONE,
        exact_cost=usd_exact(call.charged_nano_usd),
        latency=duration(call.latency_ms),
        status=call.get_status_display(),
        tone=tone_of(call.status),
        error=call.error_code,
        reason=reason_of(call),
        times=count(call.call_count) if call.call_count > 1 else "",
    )


def _chosen(call: UsageRecord) -> str:
    """What `auto` chose, by the name of the catalogue; else what the provider calls it."""
    auto = call.decision.get("auto")
    return str((auto.get("model") if isinstance(auto, dict) else None) or call.served_model)
