"""Calls let through while limits cannot be checked, where an organisation has asked for that.

Who calls, and what the rules allow, is read from PostgreSQL for each of them: nothing may be remembered that a change
could have made false. Nothing is held; what the call costs is added to the counters as soon as Redis answers again.
Each is marked in its headers, in its ledger row, in the log and in the metrics.
"""

from __future__ import annotations

import time

import structlog

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from guardrails.admission import Admitted
from orgs.access import KeyReference, KeyRefused
from proxy import callers, errors, metrics
from proxy.call import Call
from proxy.callers import Caller
from proxy.errors import GuardrailsUnavailable

log = structlog.get_logger(__name__)


async def caller_of(key: KeyReference) -> Caller:
    """Raises errors.KeyRefused, and GuardrailsUnavailable where the organisation does not ask for it."""
    try:
        return await callers.load_unguarded(key)
    except KeyRefused as refusal:
        raise errors.CODES[refusal.code](str(refusal)) from refusal
    except (DatabaseUnavailable, RedisUnavailable) as error:
        raise GuardrailsUnavailable from error


def admitted(call: Call) -> Admitted:
    """Of a call that was judged and planned by what `caller_of` has read."""
    metrics.UNGUARDED.inc()
    log.warning("call.unguarded", call_id=str(call.id), organization=call.principal.organization_id)
    return Admitted(
        call_id=call.id,
        limits=call.caller.limits,
        amount_nano_usd=0,
        admitted_ms=int(time.time() * 1000),
        clamped=False,
        unguarded=True,
    )
