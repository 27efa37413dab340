"""Holds whose worker died: resolved from the ledger, so that none stays and none is forgotten too early.

A worker without a lease may still have a row on its way into PostgreSQL. So a hold is not simply dropped:
a zero-cost row of status `abandoned` is inserted under the same call id. If that insert wins, the call was
never recorded, and the hold is released; if it conflicts, the row is there, and the hold is settled with
its figures. A slow worker that wakes up later finds its own insert in conflict and withholds the answer.

A hold whose row is in a spool belongs to an answer that went out: it is left to whoever drains the spool.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import structlog

from billing import replaying
from billing.ledger import Row, RowRefused
from billing.replaying import Standing
from gateway_project.lib import ids, redis
from guardrails import admission, counters, generations, leases, shrinking
from proxy import draining

log = structlog.get_logger(__name__)

RUNNING, SPOOLED = "r", "s"


class Hold(msgspec.Struct, frozen=True):
    """What Redis keeps of a running call (guardrails.counters.holds)."""

    organization_id: int
    call_id: UUID
    amount: int
    # The part of it that can only be spent on own provider keys.
    own: int
    # r: running; s: its row is in a spool; c: claimed by a resolver
    state: str
    worker: str
    subjects: tuple[str, ...]
    context: dict[str, Any]


async def resolve_all() -> int:
    """Resolves every hold of a dead worker → how many there were. What the dead left in spools comes first.

    Where an organisation's cannot be resolved the others' are; then the first failure is raised.
    """
    await draining.drain_the_dead()
    resolved, failures = 0, []
    for organization in sorted(map(int, await redis.scripts().command("SMEMBERS", counters.ACTIVE_ORGANIZATIONS))):
        try:
            resolved += await resolve(organization)
        except Exception as error:  # whatever it was: it is this organisation's alone
            log.error("holds.not_resolved", organization=organization, error=type(error).__name__, reason=str(error))
            failures.append(error)
    if failures:
        raise failures[0]
    return resolved


async def resolve(organization_id: int) -> int:
    running = await of_organization(organization_id)
    dead = {worker for worker in {hold.worker for hold in running} if not await leases.is_alive(worker)}
    abandoned = [hold for hold in running if hold.worker in dead and hold.state != SPOOLED]
    resolved = 0
    for hold in abandoned:
        try:
            resolved += await _resolve(hold)
        except (RowRefused, TypeError) as error:
            # One that cannot be closed (the context of another version, say) must not keep the others open.
            log.error("holds.unresolvable", call_id=str(hold.call_id), reason=str(error))
    if resolved:
        log.warning("holds.resolved", organization=organization_id, holds=resolved, workers=len(dead))
    return resolved


async def close(organization_id: int, call_id: UUID, *, context: dict[str, Any]) -> bool:
    """Closes one call whose worker is gone, held or not, so that the ledger has its row. False: its row is in a spool.

    `context`: who asked for what (proxy.recording.context), where it holds nothing. Raises DatabaseUnavailable, RedisUnavailable.
    """
    token = await generations.of(organization_id)
    record = await redis.scripts().command("HGET", counters.holds(organization_id, token), str(call_id))
    try:
        if record is not None:
            return await _resolve(_hold(organization_id, str(call_id), record.decode()))
        await _abandon(Hold(organization_id, call_id, 0, 0, RUNNING, "", (), context))
        return True
    except RowRefused as error:
        log.error("holds.unresolvable", call_id=str(call_id), reason=str(error))
        return False


async def of_organization(organization_id: int) -> list[Hold]:
    token = await generations.of(organization_id)
    reply = await redis.scripts().command("HGETALL", counters.holds(organization_id, token))
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return [_hold(organization_id, call_id.decode(), record.decode()) for call_id, record in pairs]


def _hold(organization_id: int, call_id: str, record: str) -> Hold:
    amount, own, state, _, _, _, _, worker, subjects, context = record.split("|", 9)
    known = msgspec.json.decode(context)
    return Hold(organization_id, UUID(call_id), int(amount), int(own), state, worker, tuple(subjects.split(",")), known)


async def _resolve(hold: Hold) -> bool:
    """False where the hold is not for us to end. Raises DatabaseUnavailable, RedisUnavailable: the next round tries again."""
    if not await shrinking.claim(hold.organization_id, hold.call_id):
        return False
    recorded = (await _abandon(hold)).recorded
    await admission.settle_hold(
        hold.organization_id,
        hold.call_id,
        hold.subjects,
        charged=recorded.charged_nano_usd,
        own=recorded.own_nano_usd,
        transaction_id=recorded.transaction_id,
        recorded_at=recorded.recorded_at,
    )
    return True


async def _abandon(hold: Hold) -> Standing:
    """What stands in the ledger after a free row was offered in the place of this call's. Raises RowRefused."""
    row = Row(
        call_id=hold.call_id,
        admitted_at=ids.time_of(hold.call_id),
        reserved_nano_usd=hold.amount,
        status="abandoned",
        http_status=500,
        **hold.context,
    )
    standing = (await replaying.write([(row, [])])).get(hold.call_id)
    if standing is None:
        raise RowRefused("the ledger takes no row for this call")
    return standing
