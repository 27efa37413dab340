"""`Idempotency-Key`: a call that is sent again neither runs nor is charged twice, whichever worker it meets.

An API key's idempotency key is claimed in PostgreSQL for one call id, before anything is held. What became of that call
only the ledger says: its row is the one truth, so there is no second commit that could be missing.

| the ledger's row under the claimed call id | then |
|---|---|
| none, and its worker lives | it runs: who repeats it waits |
| none, and its worker is gone | it is closed as `abandoned`, as in `proxy.holds`: that row wins, or meets the one that is there |
| answered, or charged | completed: the kept answer, or 409 `already_completed` |
| neither | free: the next one takes the claim over, in one statement that only one can win |

A charge that is taken back, since nobody was given the answer (`proxy.giving_back`), takes the claim along.

Guarantees: at most one call of a claim is charged, for 24 hours, whoever is killed when; nobody waits longer than the
model may take in total. A claim needs PostgreSQL: while it is away such calls are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from django.conf import settings

from billing import ledger
from billing.rows import Row
from gateway_project.lib import crypto, database
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.money import exact_usd
from gateway_project.lib.redis import RedisUnavailable
from guardrails import leases
from proxy import background, deployments, expiring, holds, kept, recording, settling
from proxy.call import Call, Claim
from proxy.errors import AlreadyCompleted, BadRequest, CallInProgress, GuardrailsUnavailable, IdempotencyConflict
from proxy.protocols.forms import without_boundary
from proxy.providers.base import Timeouts

log = structlog.get_logger(__name__)

HEADER = "idempotency-key"
REPLAYED = "x-gatehouse-replayed"
AWAY = "PostgreSQL cannot be reached, and calls with an idempotency key need it."
MAX_LENGTH = 255
HOURS = 24
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.5
# Callers of one API key that wait in one worker: each asks PostgreSQL twice a second.
MAX_WAITING = 32
# A caller that reads slowly may take so much longer than the model's total; a call without a row after that has left none.
GRACE_SECONDS = 120.0
RELEASE_TRIES, RETRY_SECONDS = 60, 0.5
# What of an answer's headers is still true when it is given out again.
LASTING = frozenset({
    "x-request-id", "request-id", "x-gatehouse-model", "x-gatehouse-route", "x-gatehouse-cost-usd",
    "x-gatehouse-own-key-cost-usd", "x-gatehouse-max-tokens", "x-gatehouse-degraded-from", "x-gatehouse-ignored",
    "content-type", "cache-control", "x-accel-buffering",
})  # fmt: skip

FREE = f"""(
    claim.claimed_at < now() - interval '{HOURS} hours' OR EXISTS (
        SELECT FROM billing_usagerecord row WHERE row.call_id = claim.call_id
        AND row.status <> 'ok' AND row.charged_nano_usd = 0 AND row.list_nano_usd = 0
    )
)"""
CLAIM_SQL = f"""
INSERT INTO proxy_idempotencyclaim AS claim (api_key_id, key_digest, body_digest, call_id, writer_id, claimed_at)
VALUES (%(api_key_id)s, %(key_digest)s, %(body_digest)s, %(call_id)s, %(writer_id)s, now())
ON CONFLICT (api_key_id, key_digest) DO UPDATE
SET body_digest = excluded.body_digest, call_id = excluded.call_id, writer_id = excluded.writer_id, claimed_at = now()
WHERE {FREE}
RETURNING claim.call_id
"""  # noqa: S608
LOOK_SQL = f"""
SELECT claim.call_id, claim.body_digest, claim.writer_id, {FREE} AS is_free, row.status, row.charged_nano_usd,
       extract(epoch FROM now() - claim.claimed_at)::float8 AS age_seconds,
       writer.id IS NULL OR writer.fenced_at IS NOT NULL OR writer.closed_at IS NOT NULL
           OR writer.seen_at < now() - make_interval(secs => %(lease_seconds)s) AS is_silent
FROM proxy_idempotencyclaim claim
LEFT JOIN billing_usagerecord row ON row.call_id = claim.call_id
LEFT JOIN billing_ledgerwriter writer ON writer.id = claim.writer_id
WHERE claim.api_key_id = %(api_key_id)s AND claim.key_digest = %(key_digest)s
"""  # noqa: S608
RELEASE_SQL = """
DELETE FROM proxy_idempotencyclaim
WHERE api_key_id = %(api_key_id)s AND key_digest = %(key_digest)s AND call_id = %(call_id)s RETURNING call_id
"""
FORGET_SQL = f"""
DELETE FROM proxy_idempotencyclaim WHERE id IN (
    SELECT id FROM proxy_idempotencyclaim WHERE claimed_at < now() - interval '{HOURS} hours'
    ORDER BY claimed_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
"""  # noqa: S608


class Standing(msgspec.Struct, frozen=True):
    """A claim as it is found: whose call it is, and what the ledger says of it. `status` is None while no row is there."""

    call_id: UUID
    body_digest: bytes
    writer_id: str
    is_free: bool
    status: str | None
    charged_nano_usd: int | None
    age_seconds: float
    is_silent: bool


class Completed(msgspec.Struct, frozen=True):
    call_id: UUID
    status: str
    charged_nano_usd: int


async def begin(call: Call, *, key: str, body: bytes, content_type: str = "") -> Completed | None:
    """None: this call is the one to run, and `call.claim` says so. Else the one that has run before, waited for if need be.

    Raises BadRequest, IdempotencyConflict, CallInProgress, GuardrailsUnavailable.
    """
    claim = claim_of(call, key=key, body=body, content_type=content_type)
    if ledger.current().away_since is not None:
        raise GuardrailsUnavailable(AWAY)
    try:
        if await _claimed(call, claim):
            return None
        with _waiting(claim.api_key_id):
            return await _outcome(call, claim)
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable(AWAY) from error


def claim_of(call: Call, *, key: str, body: bytes, content_type: str = "") -> Claim:
    """A form is the same whatever its boundary: clients draw another each time. Raises BadRequest."""
    if not 1 <= len(key) <= MAX_LENGTH or not all(" " <= char <= "~" for char in key):
        raise BadRequest(f"An idempotency key has 1 to {MAX_LENGTH} printable ASCII characters.", param=HEADER)
    asked = hashlib.sha256(call.protocol.encode() + b"\0" + without_boundary(body, content_type)).hexdigest()
    return Claim(call.principal.key_id, crypto.digest(key), crypto.digest(asked))


async def replayed(call: Call, done: Completed) -> tuple[dict[str, str], bytes]:
    """The answer of a completed call, where it is kept. Raises AlreadyCompleted, GuardrailsUnavailable."""
    principal = call.principal
    try:
        found = await kept.read(done.call_id, organization_id=principal.organization_id)
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable from error
    if found is None:
        raise already_completed(done)
    return {**found.headers, REPLAYED: "true"}, found.body


def already_completed(done: Completed) -> AlreadyCompleted:
    """`ended` is the call's status in the call log: `ok`, `cancelled`, `cut`; `charged` is in dollars."""
    ended = "was answered" if done.status == "ok" else "ended before its answer was complete"
    charged = exact_usd(done.charged_nano_usd)
    paid = f"was charged ${charged}" if done.charged_nano_usd else "was charged nothing"
    return AlreadyCompleted(
        f"The call {done.call_id} with this idempotency key {ended} and {paid}; what it answered is not kept.",
        detail={"call_id": str(done.call_id), "ended": done.status, "charged": charged},
    )


def keeps(call: Call) -> bool:
    """Whether the answer of this call is to be kept for who repeats it."""
    principal = call.principal
    if call.claim is None or not principal.content_retention_hours:
        return False
    return kept.in_sample(call.id, percent=principal.content_sample_percent)


async def keep(call: Call, headers: dict[str, str], body: bytes) -> None:
    """Before the row is recorded: whoever finds the row finds the answer."""
    principal = call.principal
    await kept.keep(
        call.id,
        kept.Answer({name: value for name, value in headers.items() if name in LASTING}, body),
        organization_id=principal.organization_id,
        hours=principal.content_retention_hours,
        at_most=timedelta(hours=HOURS),
    )


async def close(call: Call, row: Row, headers: dict[str, str], body: bytes | None) -> None:
    """`settling.close` of an answer, which is kept before its row is there. Raises as that does.

    `body`: None of a stream that is not wanted, or was too long to be gathered.
    """
    if body is not None and keeps(call):
        try:
            await keep(call, headers, body)
        except asyncio.CancelledError:
            settling.withhold_at_the_end(row)
            settling.close_later(call, row)
            raise
    await settling.close(call, row)


def release(call: Call) -> None:
    """Of a call that was refused, or left, before it was sent anywhere: it costs nothing and may leave no row."""
    if call.claim is not None:
        background.run(_release(call.claim, call.id), of="release an idempotency key")


def forget_expired(*, batch: int = expiring.BATCH) -> int:
    """Deletes claims that stand for nothing any more → how many."""
    return expiring.forget(FORGET_SQL, batch=batch)


# --- the claim ---------------------------------------------------------------------------------
async def _claimed(call: Call, claim: Claim) -> bool:
    """Whether the claim is this call's now. Raises DatabaseUnavailable; what then may stand in PostgreSQL is taken back."""
    facts = {**msgspec.structs.asdict(claim), "call_id": call.id, "writer_id": ledger.current().writer_id}
    asking = background.begun(database.rows(CLAIM_SQL, facts), of="claim an idempotency key")
    try:
        found = await asyncio.shield(asking)
    except (asyncio.CancelledError, DatabaseUnavailable):
        background.run(_take_back(asking, claim, call.id), of="take back a claim")
        raise
    if found:
        call.claim = claim
    return bool(found)


async def _take_back(asking: asyncio.Task[list[dict[str, Any]]], claim: Claim, call_id: UUID) -> None:
    await asyncio.wait({asking})
    await _release(claim, call_id)


async def _release(claim: Claim, call_id: UUID) -> None:
    """Tries for a while: a claim that stays is resolved by who comes next, once this worker is gone or the call overdue."""
    for _ in range(RELEASE_TRIES):
        try:
            await database.rows(RELEASE_SQL, {**msgspec.structs.asdict(claim), "call_id": call_id})
        except DatabaseUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


# --- somebody else's ---------------------------------------------------------------------------
_waiters: Counter[int] = Counter()


@contextlib.contextmanager
def _waiting(api_key_id: int) -> Iterator[None]:
    """Raises CallInProgress where too many wait already."""
    if _waiters[api_key_id] >= MAX_WAITING:
        raise CallInProgress
    _waiters[api_key_id] += 1
    try:
        yield
    finally:
        _waiters[api_key_id] -= 1
        if not _waiters[api_key_id]:
            del _waiters[api_key_id]


async def _outcome(call: Call, claim: Claim) -> Completed | None:
    """Waits for the call that has the claim; None where it ended for nothing and the claim has become this call's."""
    clock, total = asyncio.get_running_loop(), await _total_seconds(call)
    until, pause = clock.time() + total, FIRST_PAUSE
    while True:
        found = await _look(claim)
        if found is not None and not found.is_free:
            if found.body_digest != claim.body_digest:
                raise IdempotencyConflict
            if found.status is not None:
                return Completed(found.call_id, found.status, found.charged_nano_usd or 0)
        if found is None or found.is_free or await _closed(call, found, total=total):
            if await _claimed(call, claim):
                return None
        elif clock.time() >= until:
            raise CallInProgress
        await asyncio.sleep(min(pause, max(0.0, until - clock.time())))
        pause = min(2 * pause, LONGEST_PAUSE)


async def _look(claim: Claim) -> Standing | None:
    facts = {**msgspec.structs.asdict(claim), "lease_seconds": settings.LEASE_SECONDS}
    found = await database.rows(LOOK_SQL, facts)
    return msgspec.convert(found[0], Standing) if found else None


async def _closed(call: Call, found: Standing, *, total: float) -> bool:
    """Whether the ledger has a row now of a call whose worker is gone, or which has left none although its time is over."""
    try:
        if found.age_seconds < total + GRACE_SECONDS and not (found.is_silent and not await leases.is_alive(found.writer_id)):
            return False
        closed = await holds.close(call.principal.organization_id, found.call_id, context=recording.context(call))
    except RedisUnavailable:
        return False  # who is alive, and what is held, Redis alone can tell
    if closed:
        log.warning("idempotency.closed", call_id=str(found.call_id), writer=found.writer_id, age=round(found.age_seconds))
    return closed


async def _total_seconds(call: Call) -> float:
    """Of the model asked for; where a name stands for another, of the most patient one there is."""
    try:
        models = (await deployments.catalogue()).models
    except (RedisUnavailable, DatabaseUnavailable):
        models = {}
    named = models.get(call.asked.model)
    possible = models.values() if named is None else (named,)
    served_by = [deployment for model in possible for deployment in model.deployments]
    return max((deployment.target.timeouts.total for deployment in served_by), default=Timeouts().total)
