"""The sandbox provider: OpenAI's Chat Completions, and its routes for vectors, pictures and sound, without any model behind them.

A raw ASGI application, mounted at /sandbox by the gateway's own servers, so that everything between a caller and a
provider is real: connections, timeouts, streams, disconnects. What fails on purpose is chosen by the model's name.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from gateway_project.lib.lean import BodyTooLarge, ClientGone, Message, Receive, Scope, Send, UntilClientGone, read_body
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import chat_completions
from proxy.protocols.base import CallerCodec
from proxy.sandbox import media, tokens
from proxy.sandbox.answers import Answer, Choice, compose
from proxy.sandbox.catalogue import MODELS, SandboxModel

MAX_BODY_BYTES = 64 * 1024 * 1024
RETRY_AFTER_SECONDS = 2
# Without a delay between them, tokens share frames: nobody could see them come one by one.
TOKENS_PER_INSTANT_FRAME = 8
CREATED = 1_760_000_000
_JSON, _EVENT_STREAM, _HTML = b"application/json", b"text/event-stream", b"text/html"
_DONE = b"data: [DONE]\n\n"
CODECS: dict[str, CallerCodec] = {"/chat/completions": chat_completions, **media.CODECS}
_write = msgspec.json.Encoder().encode


class Refused(Exception):
    """An error answer in OpenAI's shape."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = _error_body(message, status=status, code=code, param=param)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        body = await read_body(scope, receive, limit=MAX_BODY_BYTES)
        async with UntilClientGone(scope, receive):
            await _serve(scope, body, send)
    except BodyTooLarge:
        await _send_whole(send, Refused(413, "The body is too large.").body, status=413)
    except ClientGone:
        return


async def _serve(scope: Scope, body: bytes, send: Send) -> None:
    try:
        _require_token(scope)
        if scope["path"] == "/sandbox/v1/models":
            await _send_whole(send, _models())
            return
        path = scope["path"].removeprefix("/sandbox/v1")
        if path not in CODECS:
            raise Refused(404, f"Unknown request URL: {scope['method']} {scope['path']}.", code="unknown_url")
        if scope["method"] != "POST":
            raise Refused(405, f"Not allowed to {scope['method']} on {scope['path']}.", code="method_not_allowed")
        request = CODECS[path].parse(body, {"content-type": _header(scope, b"content-type")})
        model = _model(request)
        answer = compose(request, model) if request.kind == "chat" else media.make(path, request)
    except BadRequest as error:
        await _send_whole(send, Refused(400, error.message, param=error.param).body, status=400)
    except Refused as error:
        await _send_whole(send, error.body, status=error.status)
    else:
        if isinstance(answer, media.Made):
            await asyncio.sleep(model.first_token_seconds)
            await _send_whole(send, answer.body, kind=answer.content_type)
        else:
            await _behave(request, model, answer, send)


def _require_token(scope: Scope) -> None:
    if not tokens.accepts(_header(scope, b"authorization")):
        raise Refused(401, "Incorrect API key provided.", code="invalid_api_key")


def _header(scope: Scope, name: bytes) -> str:
    return str(dict(scope["headers"]).get(name, b"").decode("latin-1"))


def _model(request: Request) -> SandboxModel:
    model = MODELS.get(request.model)
    if model is None:
        raise Refused(404, f"The model `{request.model}` does not exist.", code="model_not_found")
    if model.kind != request.kind:
        raise Refused(400, f"The model `{model.name}` is of the kind {model.kind}.", param="model")
    if model.behaviour == "error":
        raise Refused(model.status, f"{model.name} {model.description[:1].lower()}{model.description[1:]}.", code=model.code)
    return model


async def _behave(request: Request, model: SandboxModel, answer: Answer, send: Send) -> None:
    if model.behaviour == "hang":
        await _for_ever()
    if model.behaviour == "html":
        await _send_whole(send, b"<html><body><h1>502 Bad Gateway</h1></body></html>", kind=_HTML)
    elif model.behaviour == "empty":
        await _send_whole(send, b"", kind=_EVENT_STREAM if request.stream else _JSON)
    elif request.stream:
        await _send_stream(request, model, answer, send)
    else:
        await _send_answer(model, answer, send)


async def _for_ever() -> None:
    """Until the client goes away: then the task is cancelled."""
    await asyncio.Event().wait()


# --- whole answers -----------------------------------------------------------------------------
async def _send_answer(model: SandboxModel, answer: Answer, send: Send) -> None:
    await asyncio.sleep(model.first_token_seconds + answer.output_tokens / model.tokens_per_second)
    body = _write(_completion(model, answer))
    if model.behaviour == "stream_error":
        await _send_whole(send, _error_body("The model failed.", status=500, code="internal_error"), status=500)
    elif model.behaviour in ("stall", "disconnect"):
        await send(_start(200, _JSON, length=len(body)))
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        if model.behaviour == "stall":
            await _for_ever()
    else:
        await _send_whole(send, body)


def _completion(model: SandboxModel, answer: Answer) -> dict[str, Any]:
    choices = [
        {"index": index, "message": _message(choice), "logprobs": None, "finish_reason": choice.finish_reason}
        for index, choice in enumerate(answer.choices)
    ]
    usage = {} if model.behaviour == "no_usage" else {"usage": answer.usage()}
    return {**_envelope(answer, model, "chat.completion"), "choices": choices, **usage}


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.said, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.thought
    if choice.tool_call:
        message |= {"content": None, "tool_calls": [_tool_call(choice)]}
    return message


# --- streams -----------------------------------------------------------------------------------
async def _send_stream(request: Request, model: SandboxModel, answer: Answer, send: Send) -> None:
    """Half of it for those that break off."""
    if model.behaviour == "slow":
        await asyncio.sleep(model.first_token_seconds)
    await send(_start(200, _EVENT_STREAM))
    frames = list(_frames(model, answer))
    breaks_off = model.behaviour in ("stall", "disconnect", "stream_error")
    async for frame in _paced(frames[: len(frames) // 2] if breaks_off else frames, model):
        await send({"type": "http.response.body", "body": frame, "more_body": True})
    if model.behaviour == "stall":
        await _for_ever()
    if model.behaviour == "disconnect":
        # The server cuts a connection whose answer is left incomplete.
        return
    await send({"type": "http.response.body", "body": _ending(request, model, answer)})


def _ending(request: Request, model: SandboxModel, answer: Answer) -> bytes:
    if model.behaviour == "stream_error":
        return b"data: " + _error_body("The model failed.", status=500, code="internal_error") + b"\n\n"
    finished = [_frame(answer, model, index, {}, choice.finish_reason) for index, choice in enumerate(answer.choices)]
    if request.include_usage and model.behaviour != "no_usage":
        chunk = _envelope(answer, model, "chat.completion.chunk") | {"choices": [], "usage": answer.usage()}
        finished.append(b"data: " + _write(chunk) + b"\n\n")
    return b"".join(finished) + _DONE


async def _paced(frames: list[bytes], model: SandboxModel) -> AsyncIterator[bytes]:
    """The frames when they are due. Against the clock, not by equal sleeps: those would add up their own lateness."""
    due = time.monotonic() + (0 if model.behaviour == "slow" else model.first_token_seconds)
    for frame in frames:
        wait = due - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        yield frame
        due += 1 / model.tokens_per_second


def _frames(model: SandboxModel, answer: Answer) -> Iterator[bytes]:
    together = 1 if model.first_token_seconds else TOKENS_PER_INSTANT_FRAME
    for index, choice in enumerate(answer.choices):
        yield _frame(answer, model, index, {"role": "assistant", "content": ""})
        for part in _parts(choice.words[: choice.reasoning], together):
            yield _frame(answer, model, index, {"reasoning_content": part})
        if choice.tool_call:
            yield from _tool_frames(model, answer, index, choice)
            continue
        for part in _parts(choice.words[choice.reasoning :], together):
            yield _frame(answer, model, index, {"content": part})


def _tool_frames(model: SandboxModel, answer: Answer, index: int, choice: Choice) -> Iterator[bytes]:
    """As OpenAI cuts a call: id, type and name once, then the arguments in pieces."""
    call = _tool_call(choice)
    arguments: str = call["function"]["arguments"]
    yield _frame(answer, model, index, {"tool_calls": [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}]})
    for start in range(0, len(arguments), 8):
        piece = {"index": 0, "function": {"arguments": arguments[start : start + 8]}}
        yield _frame(answer, model, index, {"tool_calls": [piece]})


def _parts(words: list[str], together: int) -> Iterator[str]:
    for start in range(0, len(words), together):
        yield "".join(words[start : start + together])


def _frame(answer: Answer, model: SandboxModel, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return b"data: " + _write(_envelope(answer, model, "chat.completion.chunk") | {"choices": [choice]}) + b"\n\n"


# --- shapes ------------------------------------------------------------------------------------
def _envelope(answer: Answer, model: SandboxModel, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": CREATED, "model": model.name, "system_fingerprint": "sandbox"}


def _tool_call(choice: Choice) -> dict[str, Any]:
    if choice.tool_call is None:
        raise ValueError("this choice calls no tool")
    function = {"name": choice.tool_call.name, "arguments": choice.tool_call.arguments}
    return {"id": choice.tool_call.id, "type": "function", "function": function}


def _models() -> bytes:
    entries = [{"id": name, "object": "model", "created": CREATED, "owned_by": "sandbox"} for name in MODELS]
    return _write({"object": "list", "data": entries})


def _error_body(message: str, *, status: int, code: str | None = None, param: str | None = None) -> bytes:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return _write({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _start(status: int, kind: bytes, *, length: int | None = None) -> Message:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    if status == 429:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _send_whole(send: Send, body: bytes, *, status: int = 200, kind: bytes = _JSON) -> None:
    await send(_start(status, kind, length=len(body)))
    await send({"type": "http.response.body", "body": body})
