"""The stand-in provider: an HTTP server on loopback that does what each request's own prompt tells it to.

So it needs no state, and a call behaves the same whichever worker carries it, however often.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aiohttp import web

from tests.upstream import DONE, answer, frame, usage_of

WORD = "word%04d"  # eight characters: two tokens, where a text is counted
# How an answer ends. status: HTTP 500. reset: the connection ends before the first byte. hang: nothing comes.
# cut: the connection ends in the middle. error: an error frame in the middle. stall: it stands still after the last delta.
Ending = Literal["ok", "status", "reset", "hang", "cut", "error", "stall"]


@dataclass(frozen=True, slots=True)
class Script:
    """`wait` and `gap` in seconds: before the first byte, and between two words of a stream."""

    number: int
    input_tokens: int
    output_tokens: int
    words: int = 4
    wait: float = 0.0
    gap: float = 0.0
    ending: Ending = "ok"

    def request(self, *, model: str, max_tokens: int, stream: bool) -> bytes:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": json.dumps(asdict(self))}],
            "max_tokens": max_tokens,
        }
        return json.dumps(body | ({"stream": True} if stream else {})).encode()

    @property
    def text(self) -> str:
        return "".join(WORD % number for number in range(self.words))


class Provider:
    """Runs on the event loop that starts it. `answered` and `left` hold numbers of calls."""

    def __init__(self) -> None:
        self.port = 0
        self.begun: set[int] = set()
        self.answered: set[int] = set()
        self.left: set[int] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> Provider:
        application = web.Application(client_max_size=1024 * 1024)
        application.router.add_post("/v1/chat/completions", self._serve)
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        script = Script(**json.loads(body["messages"][-1]["content"]))
        self.begun.add(script.number)
        try:
            response = await self._play(request, script, stream=bool(body.get("stream")))
        except asyncio.CancelledError:
            self.left.add(script.number)
            raise
        except ConnectionError:
            self.left.add(script.number)
            return _cut(request)
        self.answered.add(script.number)
        return response

    async def _play(self, request: web.Request, script: Script, *, stream: bool) -> web.StreamResponse:
        await asyncio.sleep(script.wait)
        match script.ending:
            case "status":
                return web.json_response({"error": {"message": "Told to fail.", "type": "server_error"}}, status=500)
            case "hang":
                await asyncio.Event().wait()
            case "reset":
                return _cut(request)
        return await (self._stream if stream else self._whole)(request, script)

    async def _whole(self, request: web.Request, script: Script) -> web.StreamResponse:
        body = answer(script.text, usage=(script.input_tokens, script.output_tokens)).parts[0]
        assert isinstance(body, bytes)
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(body))})
        await response.prepare(request)
        if script.ending == "ok":
            await response.write(body)
            return response
        await response.write(body[: len(body) // 2])
        return await _halted(request, script)

    async def _stream(self, request: web.Request, script: Script) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for part in _frames(script):
            await response.write(part)
        if script.ending in ("cut", "stall"):
            return await _halted(request, script)
        await response.write_eof()
        return response


async def _frames(script: Script) -> AsyncIterator[bytes]:
    broken = script.ending in ("cut", "error")
    for number in range(script.words // 2 if broken else script.words):
        yield frame({"content": WORD % number})
        await asyncio.sleep(script.gap)
    if script.ending == "error":
        yield b'data: {"error": {"message": "Told to fail.", "type": "server_error"}}\n\n'
    if not broken:
        yield frame({}, finish="stop")
        yield frame(usage=usage_of(script.input_tokens, script.output_tokens))
    if script.ending == "ok":
        yield DONE


async def _halted(request: web.Request, script: Script) -> web.StreamResponse:
    if script.ending == "stall":
        await asyncio.Event().wait()
    return _cut(request)


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


class ProviderThread:
    """The same in a thread of its own, for tests that are no coroutines."""

    def __init__(self) -> None:
        self.provider = Provider()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> Provider:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self.provider.start(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.provider.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
