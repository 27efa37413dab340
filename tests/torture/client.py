"""A caller that speaks HTTP/1.1 on a bare socket, so that it can hang up at an exact point of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

DONE = b"data: [DONE]"
PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Leave:
    """When the caller hangs up: never; `seconds` after it has sent; with the headers; after so many `deltas` of a stream.

    `seconds` pass before it does, in every case, and `after` is true.
    """

    when: Literal["never", "sent", "headers", "deltas"] = "never"
    deltas: int = 0
    seconds: float = 0.0
    after: Callable[[], bool] = lambda: True


STAY = Leave()


@dataclass(slots=True)
class Seen:
    """What came. `ended`: as long as the answer said it would be. `left`: the caller hung up before that.

    `words`: how often a stream has said something; `said_last`: when it did so last, in Unix seconds.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    left: bool = False
    words: int = 0
    said_last: float = math.inf

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def complete(self) -> bool:
        """Whether the caller has the whole answer; of a stream with its terminal bytes."""
        return self.status == 200 and (DONE in self.body if self.is_stream else self.ended)


async def call(port: int, *, key: str, body: bytes = b"", path: str = PATH, leave: Leave = STAY, seconds: float = 30.0) -> Seen:
    """One request on a connection of its own: a GET where there is no body. A broken connection ends it."""
    seen = Seen()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_head(path, key, len(body)) + body)
            async with asyncio.timeout(seconds):
                await _read(reader, seen, leave)
        finally:
            writer.transport.abort() if seen.left else writer.close()
    return seen


def _head(path: str, key: str, length: int) -> bytes:
    method = "POST" if length else "GET"
    lines = [f"{method} {path} HTTP/1.1", "Host: torture", f"Authorization: Bearer {key}", "Connection: close"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


async def _read(reader: asyncio.StreamReader, seen: Seen, leave: Leave) -> None:
    received = b""
    while not seen.ended:
        if _is_time(seen, leave):
            await _linger(reader, received, seen, leave.seconds)
            while not leave.after():
                await asyncio.sleep(0.01)
            seen.left = not seen.complete
            return
        part = await reader.read(65536)
        if not part:
            return
        received += part
        parse(received, into=seen)


async def _linger(reader: asyncio.StreamReader, received: bytes, seen: Seen, seconds: float) -> None:
    """Goes on reading for a while: what comes meanwhile has been seen."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not seen.ended and (part := await reader.read(65536)):
                received += part
                parse(received, into=seen)


def _is_time(seen: Seen, leave: Leave) -> bool:
    match leave.when:
        case "sent":
            return True
        case "headers":
            return bool(seen.status)
        case "deltas":
            return bool(seen.status) and seen.words >= leave.deltas
    return False


def parse(received: bytes, *, into: Seen) -> None:
    """What has arrived of one answer so far."""
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        return
    first, *lines = head.decode("latin-1").split("\r\n")
    into.status = int(first.split(" ")[1])
    into.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if into.headers.get("transfer-encoding") == "chunked":
        into.body, into.ended = _chunks(rest)
        _listen(into)
    else:
        length = int(into.headers.get("content-length", 0))
        into.body, into.ended = rest[:length], len(rest) >= length


def _listen(seen: Seen) -> None:
    words = seen.body.count(b'"content"')
    if words > seen.words:
        seen.words, seen.said_last = words, time.time()


def _chunks(rest: bytes) -> tuple[bytes, bool]:
    body, at = b"", 0
    while (end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:end], 16)
        if size == 0:
            return body, rest[end:].startswith(b"\r\n\r\n")
        body += rest[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
        if at > len(rest):
            break
    return body, False
