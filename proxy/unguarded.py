"""Calls let through while limits cannot be checked, where an organisation has asked for that.

Who calls, and what the rules allow, is read from PostgreSQL for each of them: nothing may be remembered that a change
could have made false. Nothing is held; what the call costs is added to the counters as soon as Redis answers again.
Each is marked in its headers, in its ledger row, in the log and in the metrics.
"""

from __future__ import annotations

import time

import structlog

from gateway_project.lib.database import DatabaseUnavailable
from guardrails.admission import Admitted
from orgs.access import KeyRefused
from proxy import callers, errors, metrics, permits
from proxy.call import Call
from proxy.errors import GuardrailsUnavailable

log = structlog.get_logger(__name__)


async def admitted(call: Call) -> Admitted:
    """Raises KeyRefused, PermissionRefused, and GuardrailsUnavailable where the organisation does not ask for it."""
    try:
        call.caller = await callers.load_unguarded(call.caller.key)
    except KeyRefused as refusal:
        raise errors.CODES[refusal.code](str(refusal)) from refusal
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable from error
    if not call.principal.admit_unguarded:
        raise GuardrailsUnavailable
    permits.check_caller(call)
    permits.check_model(call, call.planned.model)
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
