"""A scripted provider: a real HTTP server on loopback, in a thread of its own, that answers as each test tells it to.

upstream.on("model-x", answer("hello", usage=(10, 2)))     every call for this model
upstream.then(refuse(500), answer("second try"))           the next calls, one each, whatever the model
upstream.received[-1].json["model"]                        what arrived
upstream.received[-1].gone.wait(5)                         set once the client closed the connection early
"""

import asyncio
import json
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Script:
    """One answer. `parts` are sent in order: bytes as they are, numbers as seconds of waiting.

    `ending`: "end" closes properly, "reset" cuts the connection, "hang" waits until the client leaves.
    `before` seconds pass before the headers; with `headers_sent` False the connection ends before them.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    parts: tuple[bytes | float, ...] = ()
    ending: str = "end"
    before: float = 0
    headers_sent: bool = True


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    # As it was written, escapes and query included.
    target: str = ""
    method: str = "POST"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def usage_of(prompt: int, completion: int, **details: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}


def answer(
    text: str = "Hello", *, usage: tuple[int, int] | dict[str, Any] | None = (10, 2), finish: str = "stop", **script: Any
) -> Script:
    """A whole chat completion."""
    body: dict[str, Any] = {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "served-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
    }
    if usage is not None:
        body["usage"] = usage_of(*usage) if isinstance(usage, tuple) else usage
    return Script(parts=(json.dumps(body).encode(),), **script)


def frame(delta: dict[str, Any] | None = None, *, finish: str | None = None, index: int = 0, **members: Any) -> bytes:
    """One frame of a stream; without a delta and a finish reason, `choices` is empty."""
    choices = [] if delta is None and finish is None else [{"index": index, "delta": delta or {}, "finish_reason": finish}]
    chunk = {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "served-model"}
    return b"data: " + json.dumps({**chunk, "choices": choices, **members}).encode() + b"\n\n"


def frames(*texts: str, usage: tuple[int, int] | None = (10, 2), finish: str = "stop") -> list[bytes]:
    """A whole stream as OpenAI sends it, usage frame included."""
    result = [
        frame({"role": "assistant", "content": ""}),
        *(frame({"content": text}) for text in texts),
        frame({}, finish=finish),
    ]
    if usage is not None:
        result.append(frame(usage=usage_of(*usage)))
    return [*result, DONE]


def stream(*parts: bytes | float, **script: Any) -> Script:
    return Script(headers={"content-type": "text/event-stream"}, parts=parts, **script)


def refuse(status: int, message: str = "No.", *, code: str | None = None, headers: dict[str, str] | None = None) -> Script:
    """An error in OpenAI's shape."""
    body = json.dumps({"error": {"message": message, "type": "some_error", "param": None, "code": code}}).encode()
    return Script(status=status, headers={"content-type": "application/json", **(headers or {})}, parts=(body,))


HTML = Script(headers={"content-type": "text/html"}, parts=(b"<html><h1>Bad gateway</h1></html>",))
RESET = Script(headers_sent=False, ending="reset")
HANG = Script(headers_sent=False, ending="hang")


class Upstream:
    """Unless told otherwise it answers every call, as a stream if asked for one."""

    def __init__(self, *, port: int = 0) -> None:
        self.received: list[Received] = []
        self._by_model: dict[str, Script] = {}
        self._next: deque[Script] = deque()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self.port = port

    @property
    def url(self) -> str:
        """The base URL to give to a provider."""
        return f"http://127.0.0.1:{self.port}/v1"

    def on(self, model: str, script: Script) -> None:
        self._by_model[model] = script

    def then(self, *scripts: Script) -> None:
        self._next.extend(scripts)

    def forget(self) -> None:
        self.received.clear()
        self._by_model.clear()
        self._next.clear()

    def start(self) -> "Upstream":
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the scripted provider did not start")
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stopped.wait()
        assert runner.server is not None
        left = [handler.transport for handler in runner.server.connections if handler.transport]
        await runner.cleanup()
        for transport in left:  # one whose client has not read everything would stay open beyond the loop
            transport.abort()
        await asyncio.sleep(0)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(
            request.path,
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
            target=request.raw_path,
            method=request.method,
        )
        self.received.append(received)
        try:
            response = await self._play(request, self._script(received))
            received.answered.set()
        except (asyncio.CancelledError, ConnectionError):
            received.gone.set()
            raise
        return response

    def _script(self, received: Received) -> Script:
        if self._next:
            return self._next.popleft()
        if received.method != "POST":
            return refuse(405)
        model = received.json.get("model", "")
        if model in self._by_model:
            return self._by_model[model]
        return stream(*frames("Hel", "lo")) if received.json.get("stream") else answer()

    async def _play(self, request: web.Request, script: Script) -> web.StreamResponse:
        await asyncio.sleep(script.before)
        response = web.StreamResponse(status=script.status, headers=script.headers)
        if script.headers_sent:
            await response.prepare(request)
        for part in script.parts:
            if isinstance(part, bytes):
                await response.write(part)
            else:
                await asyncio.sleep(part)
        await self._end(request, script.ending)
        if script.ending == "end":
            await response.write_eof()
        return response

    @staticmethod
    async def _end(request: web.Request, ending: str) -> None:
        if ending == "hang":
            await asyncio.Event().wait()
        if ending == "reset" and request.transport is not None:
            request.transport.abort()


class MortalUpstream:
    """One in a process of its own that answers every call, until it is killed: then its port refuses connections."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> "MortalUpstream":
        """Where it was before, if it ever was."""
        command = [sys.executable, "-m", "tests.upstream", str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def kill(self) -> None:
        """SIGKILL, whatever is under way; idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def slowly(script: Script, seconds: float) -> Script:
    """The same answer, its headers `seconds` late."""
    return replace(script, before=seconds)


if __name__ == "__main__":
    sys.stdout.write(f"{Upstream(port=int(sys.argv[1])).start().port}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until whoever started it is gone
