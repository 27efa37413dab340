"""`POST /v1/messages/count_tokens`: how many tokens a prompt has for the model that would answer it.

A provider that speaks Messages is asked itself. Every other model has no such question, and whoever counts before
they call must not be turned away: they get the gateway's estimate. No call: nothing is reserved, charged or recorded.
"""

from __future__ import annotations

import asyncio

from proxy import pipeline, recording
from proxy.call import Call
from proxy.callers import Caller
from proxy.canonical.request import Request
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed, as_proxy_error
from proxy.protocols import messages

# Clients count before every turn: an estimate now is worth more than a figure later.
ASK_SECONDS = 5.0


async def input_tokens(caller: Caller, asked: Request, *, zdr: bool = False) -> int:
    """Raises what a call to this model would be refused with before anything is counted."""
    call = Call(messages.NAME, caller, zdr_asked=zdr)
    call.request = asked
    plan = await pipeline.plan_of(call)
    counted = await _ask(plan.deployments[0], call.asked)
    return recording.estimated_usage(call, 0).input_uncached if counted is None else counted


async def _ask(deployment: Deployment, asked: Request) -> int | None:
    """None where the provider cannot tell, or not in time. Raises BadRequest where it refuses the prompt itself."""
    provider, target = deployment.provider, deployment.target
    if provider.protocol_for(messages.NAME) != messages.NAME:
        return None
    body = messages.write_count(asked, model=target.model)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            upstream = await provider.open(target, path=messages.COUNT_PATH, body=body, stream=False, headers=asked.headers)
            try:
                return messages.read_count(await upstream.body())
            finally:
                await upstream.close()
    except AttemptFailed as failure:
        if failure.kind == "bad_request" and failure.status == 400:
            raise as_proxy_error(failure) from failure
        return None
    except (TimeoutError, ValueError):
        return None
