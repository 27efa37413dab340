"""The end of every call: the row is durable, then the hold becomes what was charged. In that order, always.

Between the two the hold still counts, so no sum is ever too low. If this worker dies between them, or
before the row, `proxy.holds` finishes the job from the ledger.

While PostgreSQL is away the row is durable in the spool. Then the hold shrinks to the exact cost and stays, until
`proxy.draining` has brought the row into the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from billing import ledger, spool
from billing.ledger import AlreadyRecorded, Fenced, LedgerUnavailable, Outcome, Recorded, Row, RowRefused, Spooled
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.ending import ending
from gateway_project.lib.redis import RedisUnavailable
from guardrails import admission, loading, shrinking
from proxy import background, giving_back, measuring, metrics, recording
from proxy.call import Call
from proxy.errors import GatewayStopping, GuardrailsUnavailable

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
TAKE_BACK_SECONDS = 1.0


async def close(call: Call, row: Row) -> None:
    """Returns once the row is durable and the hold is what was charged; only then may the last bytes go out.

    Raises GuardrailsUnavailable where that is not certain: the answer must be withheld.
    """
    try:
        done = _queued(call, row)
    except LedgerUnavailable as error:
        background.run(_insist(call, lambda: _release(call)), of="release after a full ledger queue")
        raise GuardrailsUnavailable("The ledger takes no more rows, so no answer is given out.") from error
    metrics.observe(row, model=_model(call))
    measuring.over(call, row)
    try:
        outcome = await ledger.confirmed(done)
        if isinstance(outcome, Recorded):
            if call.unguarded:  # Redis did not answer a moment ago: its charge is added when it does
                background.run(_settle_after(call, row, done), of="add the charge of an unchecked call")
            else:
                await _settle(call, row, outcome)
            return
    except asyncio.CancelledError:
        withhold_at_the_end(row)
        background.run(_settle_after(call, row, done), of="settle a cancelled call")
        raise
    except RedisUnavailable:
        # The row is durable and the answer complete: the caller need not wait until Redis is back.
        background.run(_settle_after(call, row, done), of="settle once Redis answers")
        return
    except AlreadyRecorded as error:
        raise GuardrailsUnavailable("This call took so long that it was closed as abandoned; nothing was charged.") from error
    except LedgerUnavailable as error:
        # The row stays queued, and is written as what this became. What is committed by now is taken back behind us.
        recording.withhold(row)
        background.run(_settle_after(call, row, done), of="settle a late row")
        raise GuardrailsUnavailable("The ledger cannot be reached, so the answer is withheld.") from error
    await _answer_from_spool(call, row, outcome)


def withhold_at_the_end(row: Row) -> None:
    """A caller that leaves while its answer is recorded pays for it. One that goes without because this process ends does not."""
    if ending.is_cut:
        recording.withhold(row, error=GatewayStopping)


def close_later(call: Call, row: Row) -> None:
    """The same without a caller to wait for it: refusals, failures, callers who hung up."""
    try:
        done = _queued(call, row)
    except LedgerUnavailable:
        background.run(_insist(call, lambda: _release(call)), of="release after a full ledger queue")
        return
    metrics.observe(row, model=_model(call))
    measuring.over(call, row)
    if call.held is not None:
        background.run(_settle_after(call, row, done), of="settle without a caller")


async def give_up(call: Call) -> None:
    """Admission was cancelled or timed out: whether it holds anything is unknown, so release under its id."""
    await _insist(call, lambda: _forget(call))


def _queued(call: Call, row: Row) -> asyncio.Future[Outcome]:
    subjects = call.held.subjects if call.held is not None else ()
    return ledger.current().record_later(row, call.attempts, subjects=subjects)


async def _answer_from_spool(call: Call, row: Row, spooled: Spooled) -> None:
    """The row is on the disk. Its answer may go out once nobody can take the hold for abandoned any more.

    Raises GuardrailsUnavailable, and then the row in the spool is free: before anybody hears of it.
    """
    if call.held is None:
        return
    try:
        kept = await _shrink(call, spooled)
    except RedisUnavailable:
        kept = False
    except asyncio.CancelledError:
        withhold_at_the_end(row)
        background.run(_spooled_later(call, row, spooled), of="shrink the hold of a cancelled call")
        raise
    if not kept:
        await _withhold_spooled(call)
        raise GuardrailsUnavailable("Neither the ledger nor the guardrails could confirm this call; nothing is charged.")
    ledger.current().spool.decide(call.id)


async def _withhold_spooled(call: Call) -> None:
    books = ledger.current()
    try:
        await books.spool.withhold(call.id)
    except OSError as error:
        # This process remembers it all the same.
        log.error("spool.unavailable", call_id=str(call.id), error=type(error).__name__)
    finally:
        books.spool.decide(call.id)


async def _spooled_later(call: Call, row: Row, spooled: Spooled) -> None:
    """Nobody waits for an answer: the row counts as it was meant in the end, whatever becomes of the hold meanwhile."""
    if (row.charged_nano_usd, row.own_nano_usd) != spooled:
        await _withhold_spooled(call)  # withheld while it was on its way to the disk
        return
    ledger.current().spool.decide(call.id)
    await _again_and_again(lambda: _shrink(call, spooled))


async def _shrink(call: Call, spooled: Spooled) -> bool:
    if call.held is None:
        return True
    return await shrinking.shrink(
        call.held.organization_id,
        call.id,
        subjects=call.held.subjects,
        charged=spooled.charged_nano_usd,
        own=spooled.own_nano_usd,
    )


async def _settle_after(call: Call, row: Row, done: asyncio.Future[Outcome]) -> None:
    try:
        outcome = await done
    except AlreadyRecorded:
        return  # whoever recorded it settles it
    except Fenced:
        recording.withhold(row)
        close_later(call, row)
        return
    except RowRefused:
        await _insist(call, lambda: _release(call))
        return
    if isinstance(outcome, Spooled):
        await _spooled_later(call, row, outcome)
    else:
        recorded = outcome
        await _insist(call, lambda: _settle(call, row, recorded))
        if not row.counts and (recorded.charged_nano_usd or recorded.own_nano_usd):  # withheld while it was committed
            await _take_back(call, row)


async def _take_back(call: Call, row: Row) -> None:
    """Where PostgreSQL does not do it soon the spool remembers it, and `proxy.draining` does it: this process may end before."""
    try:
        await background.waited(giving_back.give_back(call.id, absorbed=True), of="take a charge back", seconds=TAKE_BACK_SECONDS)
    except (TimeoutError, RedisUnavailable, DatabaseUnavailable):
        books, subjects = ledger.current(), call.held.subjects if call.held is not None else ()
        try:
            await books.spool.append([spool.encode(spool.Entry(row, call.attempts, subjects))])
        except OSError as error:
            log.error("spool.unavailable", call_id=str(call.id), error=type(error).__name__)
            await _again_and_again(lambda: giving_back.give_back(call.id, absorbed=True))


async def _insist(call: Call, settle: Callable[[], Awaitable[object]]) -> None:
    """While this worker lives nobody else resolves its holds: it tries until Redis answers.

    A try whose answer was lost may have been carried out, and after long the tombstone that would tell is gone. So
    then nothing is added: the counters are read from the ledger anew, which has the row, and only then the hold goes.
    """
    began = time.monotonic()

    async def step() -> object:
        late = time.monotonic() - began > admission.TOMBSTONE_SECONDS / 2
        return await (_recount(call) if late else settle())

    await _again_and_again(step)


async def _again_and_again(step: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await step()
        except (RedisUnavailable, DatabaseUnavailable):
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


async def _forget(call: Call) -> None:
    await admission.give_up(call.caller.limits, call.id)


async def _recount(call: Call) -> None:
    await loading.unload(call.caller.limits.organization_id, call.caller.limits.subjects)
    await _forget(call)


async def _settle(call: Call, row: Row, recorded: Recorded) -> None:
    if call.held is not None:
        await admission.settle(
            call.held,
            charged=recorded.charged_nano_usd,
            own=recorded.own_nano_usd,
            transaction_id=recorded.transaction_id,
            recorded_at=recorded.recorded_at,
            tokens=_tokens(row),
        )


async def _release(call: Call) -> None:
    if call.held is not None:
        await admission.release(call.held)


def _tokens(row: Row) -> int:
    """As limits of tokens per minute count them: everything read and written."""
    cached = row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens
    return row.input_tokens + cached + row.output_tokens


def _model(call: Call) -> str:
    return call.served_model if call.plan is not None else ""
