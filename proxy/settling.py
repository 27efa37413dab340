"""The end of every call: the row commits, then the hold becomes what was charged. In that order, always.

Between the two the hold still counts, so no sum is ever too low. If this worker dies between them, or
before the row, `proxy.holds` finishes the job from the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from billing import ledger
from billing.ledger import AlreadyRecorded, LedgerUnavailable, Recorded, Row, RowRefused
from gateway_project.lib.redis import RedisUnavailable
from guardrails import admission
from proxy import background, metrics, recording
from proxy.call import Call
from proxy.errors import GuardrailsUnavailable

RETRY_SECONDS = 0.5


async def close(call: Call, row: Row) -> None:
    """Returns once the row is durable and the hold is gone; only then may the last bytes go out.

    Raises GuardrailsUnavailable where that is not certain: the answer must be withheld.
    """
    try:
        done = ledger.current().record_later(row, call.attempts)
    except LedgerUnavailable as error:
        background.run(_insist(call, lambda: _release(call)), of="release after a full ledger queue")
        raise GuardrailsUnavailable("The ledger takes no more rows, so no answer is given out.") from error
    metrics.observe(row, model=_model(call))
    try:
        await _settle(call, await ledger.confirmed(done))
    except asyncio.CancelledError:
        background.run(_settle_after(call, done), of="settle a cancelled call")
        raise
    except RedisUnavailable:
        # The row is durable and the answer complete: the caller need not wait until Redis is back.
        background.run(_settle_after(call, done), of="settle once Redis answers")
    except AlreadyRecorded as error:
        raise GuardrailsUnavailable("This call took so long that it was closed as abandoned; nothing was charged.") from error
    except LedgerUnavailable as error:
        # The row stays queued. Unless it is being committed at this very moment, it is written as what this became.
        recording.withhold(row)
        background.run(_settle_after(call, done), of="settle a late row")
        raise GuardrailsUnavailable("The ledger cannot be reached, so the answer is withheld.") from error


def close_later(call: Call, row: Row) -> None:
    """The same without a caller to wait for it: refusals, failures, callers who hung up."""
    try:
        done = ledger.current().record_later(row, call.attempts)
    except LedgerUnavailable:
        background.run(_insist(call, lambda: _release(call)), of="release after a full ledger queue")
        return
    metrics.observe(row, model=_model(call))
    if call.held is not None:
        background.run(_settle_after(call, done), of="settle without a caller")


async def give_up(call: Call) -> None:
    """Admission was cancelled or timed out: whether it holds anything is unknown, so release under its id."""
    await _insist(call, lambda: _forget(call))


async def _settle_after(call: Call, done: asyncio.Future[Recorded]) -> None:
    try:
        recorded = await done
    except AlreadyRecorded:
        return  # whoever recorded it settles it
    except RowRefused:
        await _insist(call, lambda: _release(call))
        return
    await _insist(call, lambda: _settle(call, recorded))


async def _insist(call: Call, settle: Callable[[], Awaitable[object]]) -> None:
    """While this worker lives nobody else resolves its holds: it tries until Redis answers.

    A try whose answer was lost may have been carried out, and after long the tombstone that would tell is gone. So
    then nothing is added: the hold goes, and the counters are read from the ledger anew, which has the row.
    """
    began = time.monotonic()
    while True:
        late = time.monotonic() - began > admission.TOMBSTONE_SECONDS / 2
        try:
            await (_recount(call) if late else settle())
        except RedisUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


async def _forget(call: Call) -> None:
    limits = call.caller.limits
    nothing = [0] * len(limits.subjects)
    await admission.settle_hold(limits.organization_id, call.id, limits.subjects, nothing, 0, None)


async def _recount(call: Call) -> None:
    await _forget(call)
    await admission.unload(call.caller.limits.organization_id, call.caller.limits.subjects)


async def _settle(call: Call, recorded: Recorded) -> None:
    if call.held is not None:
        await admission.settle(
            call.held,
            charged=recorded.charged_nano_usd,
            pool_charged=recorded.charged_nano_usd,
            transaction_id=recorded.transaction_id,
            recorded_at=recorded.recorded_at,
        )


async def _release(call: Call) -> None:
    if call.held is not None:
        await admission.release(call.held)


def _model(call: Call) -> str:
    return call.plan.model.name if call.plan is not None else ""
