"""`GET /v1/key`: what a program may know of its own key: who it is, and every limit with what is left of it."""

from __future__ import annotations

from typing import Any

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.money import exact_usd
from gateway_project.lib.redis import RedisUnavailable
from guardrails import headroom
from guardrails.headroom import Headroom
from proxy import spend
from proxy.callers import Caller
from proxy.errors import GuardrailsUnavailable


async def describe(caller: Caller) -> dict[str, Any]:
    """Amounts are dollars as text. Raises GuardrailsUnavailable."""
    principal = caller.principal
    try:
        left = await headroom.of(caller.limits, source=spend.SOURCE)
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error
    return {
        "object": "key",
        "name": principal.key_name,
        "organization": principal.organization_name,
        "path": [node.name for node in principal.path],
        "member": principal.member_name or None,
        "application": principal.application_name or None,
        "environment": principal.environment or None,
        "features": list(principal.features),
        "expires_at": principal.expires_at,
        "limits": [_limit(entry) for entry in left],
    }


def _limit(entry: Headroom) -> dict[str, Any]:
    shown = exact_usd if entry.limit.kind == "budget" else str
    return {
        "kind": entry.limit.kind,
        "level": entry.limit.level,
        "node": entry.limit.node,
        "policy": entry.limit.policy,
        "window": entry.limit.window,
        "limit": shown(entry.limit.value),
        "spent": shown(entry.used),
        "held": shown(entry.held),
        "left": shown(entry.left),
        "resets_at": entry.resets_at,
    }
