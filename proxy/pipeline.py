"""The whole life of a call, top to bottom: who, what, where, may it, send, record, settle.

Guarantees: from the moment something is reserved, every way out either settles what the ledger recorded
or releases the hold; every call of a known key leaves one row; nothing is read from a provider while a
database transaction is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple

import msgspec

from billing import ledger
from gateway_project.lib import patience
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from guardrails import admission, leases
from guardrails.admission import Admitted, Degrade, Refused, Stale
from orgs.access import KeyRefused, bearer
from proxy import (
    attempts,
    attribution,
    background,
    callers,
    deployments,
    errors,
    headers,
    histories,
    idempotency,
    listed,
    measuring,
    observed,
    open_streams,
    permits,
    reach,
    recording,
    refusals,
    routing,
    settling,
    spend,
    steering,
    unguarded,
    video_jobs,
)
from proxy import streaming as streams
from proxy.call import Call
from proxy.errors import GuardrailsUnavailable, ProxyError
from proxy.exchange import Whole
from proxy.open_calls import OpenCall
from proxy.protocols import videos
from proxy.protocols.base import CallerCodec

# Judged by Redis itself, or not judged at all: nothing cached can be the reason.
CERTAIN = (errors.MoneyRefused, errors.RateRefused, GuardrailsUnavailable)
# How often a call follows a changing organisation before it gives up: each round reads everything anew.
MAX_ROUNDS = 8


class Answer(NamedTuple):
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes]


class Incoming(NamedTuple):
    """What a caller sent. `headers`: those that the route's codec reads (`HEADERS`), by name in lower case.

    `zdr`: what the header `permits.ZDR_HEADER` says; None: there is none.
    `key_id`: of the key to call with in place of `authorization`, where the console has judged that its member asks.
    """

    body: bytes
    authorization: str | None
    feature: str
    address: str
    headers: dict[str, str]
    session: str = ""
    zdr: str | None = None
    idempotency_key: str | None = None
    key_id: int | None = None


async def handle(incoming: Incoming, *, codec: CallerCodec) -> Answer:
    """One call of a protocol. Raises ProxyError, with `request_id` set once the call has one."""
    caller = await authenticate(incoming.authorization, key_id=incoming.key_id)
    call = Call(codec.NAME, caller, incoming.feature, incoming.address, incoming.session)
    try:
        await _read(call, incoming, codec)
        if incoming.idempotency_key is None:
            await admit(call)
        elif (known := await _admit_once(call, incoming, key=incoming.idempotency_key)) is not None:
            return known
        return await _stream(call, codec) if call.asked.stream else await _whole(call)
    except ProxyError as error:
        error.request_id = str(call.id)
        raise


async def _read(call: Call, incoming: Incoming, codec: CallerCodec) -> None:
    """Raises BadRequest, or what has become of the key since it was cached."""
    try:
        call.zdr_asked = permits.asks_zdr(incoming.zdr)
        call.request = codec.parse(incoming.body, incoming.headers)
        await histories.go_on(call)
    except ProxyError as error:
        if not await _is_current(call):
            call.caller = await _reload(call, None)
        refusals.record(call, error)
        raise


async def _admit_once(call: Call, incoming: Incoming, *, key: str) -> Answer | None:
    """The answer of a call that ran before under this idempotency key; None: this call is the one, and it is admitted."""
    try:
        content_type = incoming.headers.get("content-type", "")
        completed = await idempotency.begin(call, key=key, body=incoming.body, content_type=content_type)
        if completed is not None:
            call.caller = await authenticate_current(incoming.authorization, key_id=incoming.key_id)
            permits.check_caller(call)
            return Answer(*await idempotency.replayed(call, completed))
    except ProxyError as error:
        refusals.record(call, error)
        raise
    try:
        await admit(call)
    except BaseException:
        idempotency.release(call)
        raise
    return None


async def authenticate(authorization: str | None, *, key_id: int | None = None) -> callers.Caller:
    """Raises errors.KeyRefused, GuardrailsUnavailable."""
    try:
        return await callers.cached(bearer(authorization) if key_id is None else key_id)
    except KeyRefused as refusal:
        raise errors.CODES[refusal.code](str(refusal)) from refusal
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error


async def authenticate_current(authorization: str | None, *, key_id: int | None = None) -> callers.Caller:
    """For answers that no admission stands behind: the key as it is now, not as this worker remembers it.

    Raises errors.KeyRefused, GuardrailsUnavailable.
    """
    try:
        return await callers.current((await authenticate(authorization, key_id=key_id)).key)
    except KeyRefused as refusal:
        raise errors.CODES[refusal.code](str(refusal)) from refusal
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error


async def admit(call: Call) -> None:
    """Plans the call and reserves what it can cost at most. What refuses it is recorded before it is raised."""
    for _ in range(MAX_ROUNDS):
        try:
            return await _plan_and_reserve(call)
        except Stale as stale:
            call.caller = await _reload(call, stale.now)
        except ProxyError as error:
            # What refuses may be out of date: then ask again with what is true now.
            if isinstance(error, CERTAIN) or await _is_current(call):
                refusals.record(call, error)
                raise
            call.caller = await _reload(call, None)
    raise GuardrailsUnavailable("The organisation's settings change faster than they can be read.")


async def _judge(call: Call) -> None:
    """What needs no counter: who, from where, for what, which model, and where it may go."""
    call.feature = attribution.feature_of(call.principal, call.feature_asked)
    permits.check_caller(call)
    histories.check(call)
    call.degraded, call.own_only = None, False
    call.plan = await plan_of(call)


async def _plan_and_reserve(call: Call) -> None:
    if not ledger.takes_calls():  # before anything is held, or asked of a provider that wants to be paid for it
        raise GuardrailsUnavailable("What calls cost cannot be recorded at this moment.")
    await _judge(call)
    outcome = await _reserve(call, may_degrade=True)
    if isinstance(outcome, Degrade):
        await degrade(call, outcome)
        outcome = await _reserve(call, may_degrade=False)
    if isinstance(outcome, Refused) and outcome.limit.kind == "budget" and call.planned.is_mixed:
        await without_fallback(call)
        outcome = await _reserve(call, may_degrade=False)
    if isinstance(outcome, Refused):
        raise refusals.told(call, outcome)
    if isinstance(outcome, Degrade):
        raise GuardrailsUnavailable
    call.held, plan = outcome, call.planned
    call.max_tokens = plan.max_tokens
    if outcome.clamped:
        call.max_tokens = min(plan.output_cap, routing.affordable(plan, call.asked, amount=outcome.amount_nano_usd))


async def _reserve(call: Call, *, may_degrade: bool) -> Admitted | Refused | Degrade:
    plan = call.planned
    if call.principal.admit_unguarded and leases.current().is_late:
        return await _reserve_unguarded(call)
    try:
        return await admission.admit(
            call.caller.limits,
            epoch=call.caller.epoch,
            call_id=call.id,
            amount=plan.worst_case,
            least=plan.least,
            tokens=plan.tokens,
            may_degrade=may_degrade,
            context=msgspec.json.encode(recording.context(call)).decode(),
            source=spend.SOURCE,
            own_only=plan.own_only,
        )
    except asyncio.CancelledError:
        background.run(settling.give_up(call), of="give up a cancelled admission")
        raise
    except RedisUnavailable:
        return await _reserve_unguarded(call)
    except DatabaseUnavailable as error:
        background.run(settling.give_up(call), of="give up an unanswered admission")
        raise GuardrailsUnavailable from error


async def _reserve_unguarded(call: Call) -> Admitted:
    """Judged anew by what PostgreSQL says now, and let through where the organisation asks for it."""
    try:
        call.caller = await unguarded.caller_of(call.caller.key)
        await _judge(call)
    except BaseException:
        # Whether the admission that nobody answered holds something is unknown; an admitted call ends that as it settles.
        background.run(settling.give_up(call), of="give up an unanswered admission")
        raise
    return unguarded.admitted(call)


async def degrade(call: Call, outcome: Degrade) -> None:
    """The call goes to the cheaper model that the policy names, if it can and may go there; else it stays as it is."""
    if outcome.limit.degrade_model == call.model:
        return
    call.degraded = outcome.limit
    try:
        call.plan = await plan_of(call)
    except ProxyError:
        call.degraded = None


async def without_fallback(call: Call) -> None:
    """Nothing pays for the operator's deployments that would follow: own provider keys alone need nothing of it."""
    call.own_only = True
    call.plan = await plan_of(call)


async def plan_of(call: Call) -> routing.Plan:
    """Where the call may go and what it can cost. Raises PermissionRefused, ModelNotFound, BadRequest, ModelUnpriced."""
    steering.rename(call)
    catalogue = await _catalogue(call)
    steering.decide(call, catalogue)
    model = routing.find(catalogue, call.model, kind=call.asked.kind)
    permits.check_model(call, model)
    if call.degraded is not None:
        reach.check_degraded(call, model)
    limits = call.caller.limits
    rules = limits.rules
    bounds = routing.Bounds(
        most=permits.most_tokens(call),
        least=rules.clamp_least_tokens if rules.clamp else None,
        usual=await observed.usual_output(call.principal.key_id, model.name) if rules.observed_holds else None,
        tokens=min((limit.value for limit in limits.limits if limit.kind == "tpm"), default=None),
    )
    return routing.plan(model, call.asked, choices=reach.choices(call, model, catalogue), bounds=bounds)


async def _catalogue(call: Call) -> deployments.Catalogue:
    """A model that is missing from this worker's catalogue may have been declared a moment ago."""
    try:
        catalogue = await deployments.catalogue()
        if catalogue.find(call.model) is None:
            catalogue = await deployments.refreshed()
            await listed.find(catalogue, call.model)
        return catalogue
    except RedisUnavailable as error:
        if call.principal.admit_unguarded:
            return await _catalogue_unguarded(call)
        raise GuardrailsUnavailable from error
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable from error


async def _catalogue_unguarded(call: Call) -> deployments.Catalogue:
    try:
        catalogue = await deployments.as_stored()
        await listed.find(catalogue, call.model)
        return catalogue
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable from error


async def _reload(call: Call, now: datetime | None) -> callers.Caller:
    """Raises errors.KeyRefused where the key has been refused since."""
    try:
        return await callers.renewed(call.caller, now=now)
    except KeyRefused as refusal:
        error = errors.CODES[refusal.code](str(refusal))
        refusals.record(call, error)
        raise error from refusal
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error


async def _is_current(call: Call) -> bool:
    try:
        return await callers.is_current(call.caller)
    except RedisUnavailable:
        # Nobody can tell. Where calls pass unchecked, what refuses one is read from PostgreSQL, too.
        return not (call.principal.admit_unguarded and call.caller.epoch)


async def _whole(call: Call) -> Answer:
    try:
        with OpenCall(call) as opened, patience.within(call.seconds_left) as opened.waiting:
            opened.refuse_if_cut()
            whole = await attempts.whole_answer(call, call.planned)
        if call.protocol == videos.NAME:
            whole = await video_jobs.accepted(call, whole)
    except asyncio.CancelledError:
        settling.close_later(call, recording.cancelled(call))
        raise
    except Exception as error:
        raise _failed(call, call.cut or error) from error
    return await _given(call, whole)


async def _given(call: Call, whole: Whole) -> Answer:
    """A whole answer, recorded."""
    reply = whole.reply
    row = recording.completed(
        call,
        reply.usage,
        text_length=reply.text_length,
        finish_reason=reply.finish_reasons[0] if reply.finish_reasons else "",
        has_output=reply.has_output,
    )
    own = row.own_nano_usd if row.byok else None
    told = headers.of_whole(call, charged=row.charged_nano_usd, own=own, content_type=whole.content_type)
    await idempotency.close(call, row, told, whole.body)
    await histories.keep(call, whole.body)
    return Answer(told, whole.body)


async def _stream(call: Call, codec: CallerCodec) -> Answer:
    try:
        with open_streams.watched(call) as stream, patience.within(call.seconds_left) as stream.waiting:
            stream.refuse_if_cut()
            open_one = attempts.opened_stream if call.asked.kind == "chat" else attempts.stream_or_whole
            opened = await open_one(call, call.planned)
    except asyncio.CancelledError:
        settling.close_later(call, recording.cancelled(call))
        raise
    except Exception as error:
        raise _failed(call, call.cut or error) from error
    if isinstance(opened, Whole):
        return await _given(call, opened)
    frames = streams.relay(call, opened, codec)
    await anext(frames)
    return Answer(headers.of_stream(call), frames)


def _failed(call: Call, error: Exception) -> ProxyError:
    """Records a call that ended without an answer, releases its hold, and returns what to tell."""
    shown = streams.told(error)
    if isinstance(error, TimeoutError):
        measuring.never_answered(call)
    settling.close_later(call, recording.failed(call, call.wasted, error=shown))
    return shown
