"""The provider of the benchmark: answers every chat completion at once, from memory, so that only the gateway costs time.

`python -m gateway_project.bench.upstream PORT`. Non-stream answers are about 600 bytes; streams have 24 frames,
written one by one. It speaks just enough HTTP/1.1 for a client with keep-alive.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

FRAMES = 24
WORDS = ("The", "quick", "answer", "of", "a", "provider", "that", "costs", "nothing", "and", "waits", "for", "nobody")
HEAD_OF_CHUNK = '{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"bench"'


def _whole() -> bytes:
    content = " ".join(WORDS * 3)
    return (
        '{"id":"chatcmpl-bench","object":"chat.completion","created":1760000000,"model":"bench","choices":[{"index":0,'
        f'"message":{{"role":"assistant","content":"{content}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],'
        '"usage":{"prompt_tokens":120,"completion_tokens":45,"total_tokens":165,"prompt_tokens_details":{"cached_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":0}},"system_fingerprint":"bench"}'
    ).encode()


def _frames() -> list[bytes]:
    def chunk(choices: str, usage: str = "null") -> bytes:
        return f'data: {HEAD_OF_CHUNK},"choices":{choices},"usage":{usage}}}\n\n'.encode()

    deltas = [
        chunk(f'[{{"index":0,"delta":{{"content":"{WORDS[n % len(WORDS)]} "}},"finish_reason":null}}]') for n in range(FRAMES - 3)
    ]
    last = chunk('[{"index":0,"delta":{},"finish_reason":"stop"}]')
    usage = chunk("[]", '{"prompt_tokens":120,"completion_tokens":21,"total_tokens":141}')
    return [*deltas, last, usage, b"data: [DONE]\n\n"]


_BODY = _whole()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKS = [f"{len(frame):x}\r\n".encode() + frame + b"\r\n" for frame in _frames()]


class Answering(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _content_length(self._received[:end])
            if len(self._received) < end + 4 + length:
                return
            body, self._received = self._received[end + 4 : end + 4 + length], self._received[end + 4 + length :]
            self._answer(stream=b'"stream":true' in body or b'"stream": true' in body)

    def _answer(self, *, stream: bool) -> None:
        if self._transport is None:
            return
        if not stream:
            self._transport.write(WHOLE)
            return
        self._transport.write(HEAD)
        for chunk in CHUNKS:
            self._transport.write(chunk)
        self._transport.write(b"0\r\n\r\n")


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
