"""Holds whose row is in a spool: shrunk to what the call costs, and marked in their record (guardrails/counters.py).

An answer goes out only if `shrink` said yes; a call is closed as abandoned only if `claim` said yes. Of the two one
alone can, whichever comes first, so a call that was answered is never closed for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway_project.lib import redis
from guardrails import counters, generations, leases

_LUA = Path(__file__).with_name("lua")
_SHRINK = redis.Script(_LUA / "amounts.lua", _LUA / "shrink.lua")
_CLAIM = redis.Script(_LUA / "claim.lua")
MAX_ROUNDS = 3


async def shrink(organization_id: int, call_id: UUID, *, subjects: Sequence[str], charged: int, own: int = 0) -> bool:
    """Whether the hold is now what its row says (nano-dollars) and nobody else's to end. Raises RedisUnavailable.

    From now on this worker tells a new generation of the smaller hold.
    """
    record = await _run(_SHRINK, organization_id, call_id, subjects, str(charged + own), str(own))
    if record:
        leases.current().holds[call_id] = leases.Hold(organization_id, tuple(subjects), record.decode())
    return bool(record)


async def claim(organization_id: int, call_id: UUID) -> bool:
    """Whether this hold may be resolved as that of a call nobody was answered on. Raises RedisUnavailable.

    At once where a generation is being prepared: that may wait for the row whose hold this is.
    """
    reply = await _once(_CLAIM, organization_id, call_id, token=await generations.at_once(organization_id))
    if reply == -1:
        raise redis.RedisUnavailable("what calls hold is being gathered again")
    return bool(reply)


async def _run(script: redis.Script, organization_id: int, call_id: UUID, subjects: Sequence[str], *words: str) -> Any:
    for _ in range(MAX_ROUNDS):
        token = await generations.of(organization_id)
        reply = await _once(script, organization_id, call_id, subjects, *words, token=token)
        if reply != -1:
            return reply
        await generations.renew()
    raise redis.RedisUnavailable("Redis does not keep what is written to it")


async def _once(
    script: redis.Script, organization_id: int, call_id: UUID, subjects: Sequence[str] = (), *words: str, token: str
) -> Any:
    """-1: the server counts under another token, or has been started anew."""
    keys = (
        counters.generation(organization_id),
        counters.holds(organization_id, token),
        *counters.counters(organization_id, token, subjects),
    )
    return await redis.scripts().run(script, keys, (redis.RUN_ID, token, str(call_id), *words))
