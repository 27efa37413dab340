"""Holds whose row is in a spool: shrunk to what the call costs, and marked.

An answer goes out only if `shrink` said yes; a call is closed as abandoned only if `claim` said yes. Of the two one
alone can, whichever comes first, so a call that was answered is never closed for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import UUID

from gateway_project.lib import redis
from guardrails import counters, generations

_LUA = Path(__file__).with_name("lua")
_SHRINK = redis.Script(_LUA / "shrink.lua")
_CLAIM = redis.Script(_LUA / "claim.lua")
# Longer than any worker sleeps between its row and its answer.
CLAIM_SECONDS = 86_400


def spooled(organization_id: int) -> str:
    """Hash: ids of calls whose hold belongs to a row in a spool."""
    return f"gh:{{{organization_id}}}:spooled"


def claimed(organization_id: int, call_id: UUID) -> str:
    return f"gh:{{{organization_id}}}:claimed:{call_id}"


async def shrink(organization_id: int, call_id: UUID, *, subjects: Sequence[str], amount: int) -> bool:
    """Whether the hold is now this amount (nano-dollars) and nobody else's to end. Raises RedisUnavailable."""
    token = await generations.of(organization_id)
    keys = (*_keys(organization_id, token, call_id), *counters.counters(organization_id, token, subjects))
    return bool(await redis.scripts().run(_SHRINK, keys, (str(call_id), str(amount))))


async def claim(organization_id: int, call_id: UUID) -> bool:
    """Whether this hold may be resolved as that of a call nobody was answered on. Raises RedisUnavailable."""
    token = await generations.of(organization_id)
    return bool(await redis.scripts().run(_CLAIM, _keys(organization_id, token, call_id), (str(call_id), CLAIM_SECONDS)))


async def unmark(organization_id: int, call_ids: Iterable[UUID]) -> None:
    """After these calls were settled. Raises RedisUnavailable."""
    await redis.scripts().command("HDEL", spooled(organization_id), *map(str, call_ids))


def _keys(organization_id: int, token: str, call_id: UUID) -> tuple[str, str, str]:
    return counters.holds(organization_id, token), spooled(organization_id), claimed(organization_id, call_id)
