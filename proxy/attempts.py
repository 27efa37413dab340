"""Trying the plan's deployments in turn, until one answers. Never after the first byte has gone to the caller."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from billing.ledger import Attempt
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed
from proxy.exchange import Exchange, MediaExchange, Whole, exchange_of
from proxy.health import board, quotas
from proxy.protocols.base import CountedFailure, Frame, Reader
from proxy.providers.base import EVENT_STREAM, Upstream
from proxy.routing import Plan
from proxy.turns import Turn, Turns

T = TypeVar("T")


class Opened:
    """A stream of which the first frames are here and the rest is still to come. Whoever gets it closes `upstream`."""

    def __init__(self, upstream: Upstream, chunks: AsyncIterator[bytes], reader: Reader, first: list[Frame]) -> None:
        self.upstream = upstream
        self.chunks = chunks
        self.reader = reader
        self.first = first


async def whole_answer(call: Call, plan: Plan) -> Whole:
    """Raises ProxyError after the last deployment failed."""
    return await _first_success(call, plan, lambda deployment: _read_whole(call, deployment))


async def opened_stream(call: Call, plan: Plan) -> Opened:
    """Raises ProxyError after the last deployment failed. The first frame has been seen: it is not an error."""
    return await _first_success(call, plan, lambda deployment: _open_stream(call, deployment))


async def stream_or_whole(call: Call, plan: Plan) -> Opened | Whole:
    """The same for what is no chat, where some models ignore that a stream was asked for: OpenAI's `whisper-1` answers whole.

    https://platform.openai.com/docs/api-reference/audio/createTranscription#audio-createtranscription-stream
    """
    return await _first_success(call, plan, lambda deployment: _open_either(call, deployment))


async def _first_success(call: Call, plan: Plan, attempt: Callable[[Deployment], Awaitable[T]]) -> T:
    turns = Turns(call, plan)
    while (turn := await turns.next()) is not None:
        try:
            async with _Attempt(call, turn):
                return await attempt(turn.deployment)
        except AttemptFailed as failure:
            if not turns.failed(failure, at=turn.deployment):
                break
    raise turns.error()


class _Attempt:
    """Writes down how one try at one deployment ended. The provider's own words are not kept: they may quote the prompt."""

    def __init__(self, call: Call, turn: Turn) -> None:
        self._call = call
        self._turn = turn
        self._deployment = turn.deployment
        self._started = time.monotonic()

    async def __aenter__(self) -> None:
        self._call.served_by, self._call.wasted = self._deployment, None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._tell(error)
        failed = error if isinstance(error, AttemptFailed) else None
        self._call.wasted = error.usage if isinstance(error, CountedFailure) else None
        target = self._deployment.target
        self._call.attempts.append(
            Attempt(
                call_id=self._call.id,
                number=len(self._call.attempts) + 1,
                deployment_id=self._deployment.id,
                provider=target.provider_name,
                model=target.model,
                status="ok" if error is None else "failed" if failed else "cancelled",
                http_status=failed.status if failed else 200 if error is None else None,
                error=failed.kind if failed else "",
                latency_ms=self._call.elapsed_ms(self._started),
            )
        )

    def _tell(self, error: BaseException | None) -> None:
        """What the other workers should know; nothing of a caller who hung up, but that the probe is over."""
        call, known, reservation = self._call, board.current(), self._turn.reservation
        if error is None:
            first_token_ms = None if call.first_token is None else 1000 * (call.first_token - self._started)
            known.succeeded(self._deployment, began=self._started, first_token_ms=first_token_ms)
            call.answer_began, call.reservation = call.first_token or self._started, reservation
            reservation = None
        elif isinstance(error, AttemptFailed):
            known.failed(self._deployment, error, began=self._started)
        if reservation is not None and isinstance(error, AttemptFailed):
            quotas.settle(reservation, tokens=0)
        if self._turn.probes:
            known.release(self._deployment)


async def _read_whole(call: Call, deployment: Deployment) -> Whole:
    exchange = exchange_of(call, deployment)
    return await _whole_of(exchange, await _open(call, deployment, exchange, stream=False))


async def _whole_of(exchange: Exchange | MediaExchange, upstream: Upstream) -> Whole:
    try:
        body = await upstream.body()
    finally:
        await upstream.close()
    return exchange.whole(body, content_type=upstream.headers.get("content-type", "application/json"))


async def _open_stream(call: Call, deployment: Deployment) -> Opened:
    exchange = exchange_of(call, deployment)
    return await _begun(call, exchange, await _open(call, deployment, exchange, stream=True))


async def _open_either(call: Call, deployment: Deployment) -> Opened | Whole:
    exchange = exchange_of(call, deployment)
    upstream = await _open(call, deployment, exchange, stream=None)
    kind = upstream.headers.get("content-type", EVENT_STREAM).partition(";")[0].strip().lower()
    return await (_begun(call, exchange, upstream) if kind == EVENT_STREAM else _whole_of(exchange, upstream))


async def _begun(call: Call, exchange: Exchange | MediaExchange, upstream: Upstream) -> Opened:
    """A stream with its first frames. The first of them is no error."""
    try:
        reader = exchange.reader()
        chunks = upstream.chunks()
        frames: list[Frame] = []
        async for chunk in chunks:
            frames = reader.feed(chunk)
            if frames:
                break
        frames = frames or reader.flush()
        if not frames:
            raise AttemptFailed("broken", "The provider ended its stream before it began.")
        for frame in frames:
            if frame.error is not None:
                raise frame.error
        call.first_token = time.monotonic()
        return Opened(upstream, chunks, reader, frames)
    except BaseException:
        await upstream.close()
        raise


async def _open(call: Call, deployment: Deployment, exchange: Exchange | MediaExchange, *, stream: bool | None) -> Upstream:
    return await deployment.provider.open(
        deployment.target,
        path=exchange.path(),
        body=exchange.body(),
        stream=stream,
        headers=exchange.headers(),
    )
