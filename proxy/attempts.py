"""Trying the plan's deployments in turn, until one answers. Never after the first byte has gone to the caller."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from billing.ledger import Attempt
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed, ProviderFailed, as_proxy_error
from proxy.exchange import Exchange, Whole
from proxy.protocols.base import Frame, Reader
from proxy.providers.base import Upstream
from proxy.routing import Plan

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


async def _first_success(call: Call, plan: Plan, attempt: Callable[[Deployment], Awaitable[T]]) -> T:
    error: AttemptFailed | None = None
    for deployment in plan.deployments:
        try:
            async with _Attempt(call, deployment):
                return await attempt(deployment)
        except AttemptFailed as failure:
            error = failure
            if not failure.retryable:
                break
    raise as_proxy_error(error) if error is not None else ProviderFailed("No deployment could be tried.")


class _Attempt:
    """Writes down how one try at one deployment ended. The provider's own words are not kept: they may quote the prompt."""

    def __init__(self, call: Call, deployment: Deployment) -> None:
        self._call = call
        self._deployment = deployment
        self._started = time.monotonic()

    async def __aenter__(self) -> None:
        self._call.served_by = self._deployment

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        failed = error if isinstance(error, AttemptFailed) else None
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


async def _read_whole(call: Call, deployment: Deployment) -> Whole:
    exchange = Exchange(call, deployment)
    upstream = await _open(call, deployment, exchange)
    try:
        body = await upstream.body()
    finally:
        await upstream.close()
    return exchange.whole(body, content_type=upstream.headers.get("content-type", "application/json"))


async def _open_stream(call: Call, deployment: Deployment) -> Opened:
    exchange = Exchange(call, deployment)
    upstream = await _open(call, deployment, exchange)
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


async def _open(call: Call, deployment: Deployment, exchange: Exchange) -> Upstream:
    return await deployment.provider.open(
        deployment.target,
        path=exchange.path(),
        body=exchange.body(),
        stream=call.asked.stream,
        headers=exchange.headers(),
    )
