"""The load of the benchmark: so many connections, each sending one call after the other, for so many seconds.

Speaks HTTP/1.1 on bare asyncio protocols, so that the generator costs far less than what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

DRAIN_SECONDS = 10.0


@dataclass
class Load:
    """What one run saw: latencies in seconds, and answers that were not a 200."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    failures: dict[bytes, int] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return len(self.latencies)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")


class Calling(asyncio.Protocol):
    """One connection. An answer ends where its content-length or its last chunk says."""

    def __init__(self, request: bytes, load: Load, until: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._load, self._until = request, load, until
        self._received = bytearray()
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._count_failure(b"connection lost")
            self.done.set_result(None)

    def give_up(self) -> None:
        """A call that is still not answered is a failure, not one call fewer."""
        if self._transport is not None and not self.done.done():
            self._count_failure(b"no answer")
            self.done.set_result(None)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._complete():
            self._note()
            self._send()

    def _send(self) -> None:
        now = time.perf_counter()
        if now >= self._until or self._transport is None:
            self.done.set_result(None)
            if self._transport is not None:
                self._transport.close()
            return
        self._received.clear()
        self._sent_at = now
        self._transport.write(self._request)

    def _complete(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._received[:end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            return self._received.endswith(b"\r\n0\r\n\r\n")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        return len(self._received) >= end + 4 + length

    def _note(self) -> None:
        status = bytes(self._received[9:12])
        if status == b"200":
            self._load.latencies.append(time.perf_counter() - self._sent_at)
        else:
            self._count_failure(status)

    def _count_failure(self, reason: bytes) -> None:
        self._load.failures[reason] = self._load.failures.get(reason, 0) + 1


def request_bytes(url: str, *, key: str, model: str, stream: bool, headers: Sequence[str] = ()) -> bytes:
    """A chat request of about 500 bytes. `headers`: more of them, each `name: value`."""
    parts = urlsplit(url)
    prompt = "Summarise the following notes in two sentences for a busy reader. " + "Note that every word here is padding. " * 8
    asked = ',"stream":true' if stream else ""
    body = (
        f'{{"model":"{model}","messages":[{{"role":"system","content":"You are brief."}},'
        f'{{"role":"user","content":"{prompt}"}}],"max_tokens":200{asked}}}'
    )
    more = "".join(f"{line}\r\n" for line in headers)
    head = (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return (head + body).encode()


async def run(url: str, request: bytes, *, connections: int, seconds: float) -> Load:
    """Loopback only: a benchmark must never become somebody else's load."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError("the benchmark sends its load to this machine only")
    host, port = parts.hostname, parts.port or 80
    load = Load(seconds)
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    calling = [(await loop.create_connection(lambda: Calling(request, load, until), host, port))[1] for _ in range(connections)]
    await asyncio.wait([connection.done for connection in calling], timeout=seconds + DRAIN_SECONDS)
    for connection in calling:
        connection.give_up()
    return load
