"""Sends recorded calls through a gateway over HTTP, as a program would.

Each call asks the sandbox provider for exactly the recorded numbers of tokens, with a prompt of about that length.
What goes wrong with a call is part of its outcome, never an exception.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from gateway_project.demo.trace import TracedCall
from gateway_project.lib.money import BadAmount, parse_usd

CALL_SECONDS = 600
PREFLIGHT_SECONDS = 10
# About four bytes a token, as English has them.
WORD = "the "
_DATA, _DONE = b"data:", b"[DONE]"


class Unusable(Exception):
    """The gateway cannot be replayed to: the message says why."""


class Target(NamedTuple):
    """`url` is the gateway's, without /v1."""

    url: str
    key: str
    model: str
    stream: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json"}


class Outcome(NamedTuple):
    """`error` is empty for a complete answer. `cost_usd` is None where the answer does not tell: streams cannot."""

    latency_ms: float
    error: str = ""
    request_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Error(msgspec.Struct):
    code: str | None = None


class _Body(msgspec.Struct):
    usage: _Usage | None = None
    error: _Error | None = None


class _Models(msgspec.Struct):
    data: list[dict[str, Any]] = []


_decode = msgspec.json.Decoder(_Body).decode


async def check(target: Target) -> None:
    """Raises Unusable where no call could succeed."""
    try:
        timeout = aiohttp.ClientTimeout(total=PREFLIGHT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{target.url}/v1/models", headers=target.headers) as answer,
        ):
            body = await answer.read()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unusable(f"The gateway at {target.url} cannot be reached: {error or type(error).__name__}.") from error
    if answer.status != 200:
        raise Unusable(f"The gateway at {target.url} does not take this key: {answer.status} {_code_of(body)}.")
    try:
        offered = {model.get("id") for model in msgspec.json.decode(body, type=_Models).data}
    except msgspec.DecodeError as error:
        raise Unusable(f"What answers at {target.url} is not a gateway.") from error
    if target.model not in offered:
        raise Unusable(f"The gateway at {target.url} offers no model {target.model!r}.")


async def send(
    calls: Iterator[TracedCall],
    *,
    target: Target,
    speed: float,
    concurrency: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Outcome]:
    """The outcomes in the order in which the calls ended.

    Calls start at their own times ÷ `speed`, never more than `concurrency` at once; with `speed` 0 as fast as that allows.
    """
    outcomes: list[Outcome] = []
    began = time.monotonic()
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=CALL_SECONDS)) as session:

        async def work() -> None:
            for call in calls:
                if speed:
                    await asyncio.sleep(max(0.0, began + call.seconds / speed - time.monotonic()))
                outcomes.append(await _one(session, target, call))
                progress(len(outcomes))

        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(work())
    return outcomes


def body_of(call: TracedCall, target: Target) -> bytes:
    asked = {"input_tokens": call.input_tokens, "output_tokens": call.output_tokens}
    body: dict[str, Any] = {
        "model": target.model,
        "messages": [{"role": "user", "content": WORD * max(1, call.input_tokens)}],
        "max_tokens": max(1, call.output_tokens),
        "metadata": {"sandbox": asked},
    }
    if target.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body)


async def _one(session: aiohttp.ClientSession, target: Target, call: TracedCall) -> Outcome:
    began = time.monotonic()
    try:
        async with session.post(
            f"{target.url}/v1/chat/completions", data=body_of(call, target), headers=target.headers
        ) as answer:
            read = _read_stream if target.stream and answer.status == 200 else _read_whole
            outcome = await read(answer)
    except TimeoutError:
        outcome = Outcome(0, "client_timeout")
    except aiohttp.ClientError:
        outcome = Outcome(0, "connection_failed")
    except HttpProcessingError:
        outcome = Outcome(0, "malformed_answer")  # a line that is too long
    return outcome._replace(latency_ms=(time.monotonic() - began) * 1000)


async def _read_whole(answer: aiohttp.ClientResponse) -> Outcome:
    body = await answer.read()
    request_id = answer.headers.get("x-request-id", "")
    if answer.status != 200:
        return Outcome(0, _code_of(body) or f"http_{answer.status}", request_id)
    told = answer.headers.get("x-gatehouse-cost-usd")
    try:
        usage = _decode(body).usage
        cost = None if told is None else Decimal(parse_usd(told)).scaleb(-9)
    except (msgspec.DecodeError, BadAmount):
        usage = None
    if usage is None:
        return Outcome(0, "malformed_answer", request_id)
    return Outcome(0, "", request_id, usage.prompt_tokens, usage.completion_tokens, cost)


async def _read_stream(answer: aiohttp.ClientResponse) -> Outcome:
    """Complete once `[DONE]` has come."""
    request_id, usage = answer.headers.get("x-request-id", ""), _Usage()
    async for line in answer.content:
        payload = line.removeprefix(_DATA).strip() if line.startswith(_DATA) else b""  # else a comment or another field
        if payload == _DONE:
            return Outcome(0, "", request_id, usage.prompt_tokens, usage.completion_tokens)
        if not payload:
            continue
        try:
            frame = _decode(payload)
        except msgspec.DecodeError:
            return Outcome(0, "malformed_answer", request_id)
        if frame.error is not None:
            return Outcome(0, frame.error.code or "stream_error", request_id)
        usage = frame.usage or usage
    return Outcome(0, "stream_broken", request_id)


def _code_of(body: bytes) -> str:
    try:
        error = _decode(body).error
    except msgspec.DecodeError:
        return ""
    return (error.code or "") if error is not None else ""
