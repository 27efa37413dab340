"""`GET /v1/key`: what a program may know of its own key: who it is, every limit with what is left of it, every rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.money import exact_usd
from gateway_project.lib.redis import RedisUnavailable
from guardrails import headroom
from guardrails.headroom import Headroom
from guardrails.limits import Limit
from guardrails.rules import Rule, Rules
from orgs.access import Principal
from proxy import spend
from proxy.callers import Caller
from proxy.errors import GuardrailsUnavailable


async def describe(caller: Caller) -> dict[str, Any]:
    """Amounts are dollars as text. Raises GuardrailsUnavailable."""
    try:
        left = await headroom.of(caller.limits, source=spend.SOURCE)
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error
    rules = caller.limits.rules
    return {
        "object": "key",
        **identity(caller.principal),
        "limits": [_limit(entry) for entry in left],
        "rules": [_rule(rule) for rule in rules.rules if rule.entries],
        "switches": _switches(rules, caller.principal),
    }


def identity(principal: Principal) -> dict[str, Any]:
    """Whose key it is, and what its calls are attributed to."""
    return {
        "name": principal.key_name,
        "organization": principal.organization_name,
        "path": [node.name for node in principal.path],
        "member": principal.member_name or None,
        "application": principal.application_name or None,
        "environment": principal.environment or None,
        "features": list(principal.features),
        "expires_at": principal.expires_at,
    }


def figures(entry: Headroom) -> dict[str, Any]:
    """One limit and how far it is used, overrides included. A reset starts counting anew: `spent` leaves out what it forgave."""
    limit = entry.limit
    shown = exact_usd if limit.kind == "budget" else str
    return {
        "limit": shown(limit.shown_value),
        "spent": shown(entry.spent),
        "held": shown(entry.held),
        "left": shown(entry.left),
        "resets_at": _whole_seconds(entry.resets_at),
        "forgiven": shown(limit.forgiven),
        "changes_at": _changes_at(limit),
        "degrades": None if limit.keep is None else {"model": limit.degrade_model, "below_left": exact_usd(limit.keep)},
    }


def _limit(entry: Headroom) -> dict[str, Any]:
    limit = entry.limit
    named = {"kind": limit.kind, "level": limit.level, "node": limit.node, "policy": limit.policy, "window": limit.window}
    return named | ({"counts_own_keys": limit.counts_byok} if limit.kind == "budget" else {}) | figures(entry)


def _changes_at(limit: Limit) -> datetime | None:
    """When its value changes by itself: an override begins or ends. None where that is the end of its window, or never."""
    if not limit.until_ms or limit.until_ms == limit.ends_ms:
        return None
    return _whole_seconds(datetime.fromtimestamp(limit.until_ms / 1000, tz=UTC))


def _whole_seconds(moment: datetime | None) -> datetime | None:
    """Rounded up, as in errors: who waits until then has waited long enough."""
    if moment is None or not moment.microsecond:
        return moment
    return moment.replace(microsecond=0) + timedelta(seconds=1)


def _rule(rule: Rule) -> dict[str, Any]:
    """A list of members is told by its length: who they are is not a program's business."""
    listed: dict[str, Any] = {"count": len(rule.entries)} if rule.kind == "members" else {"entries": list(rule.entries)}
    return {"kind": rule.kind, "level": rule.level, "node": rule.node, "policy": rule.policy} | listed


def _switches(rules: Rules, principal: Principal) -> dict[str, Any]:
    approval = rules.approval
    return {
        "clamp": rules.clamp,
        "clamp_least_tokens": rules.clamp_least_tokens if rules.clamp else None,
        "observed_holds": rules.observed_holds,
        "attribution_required": principal.attribution_required,
        "content_retention_hours": principal.content_retention_hours,
        "content_sample_percent": principal.content_sample_percent,
        "zdr_only": principal.zdr_only,
        "models_need_approval_since": principal.approval_since,
        "approved_models": [] if approval is None else sorted(approval.approved),
    }
