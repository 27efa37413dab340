"""The benchmark's load against the benchmark's own provider, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.bench import load, upstream
from gateway_project.bench.load import Load
from proxy.protocols import chat_completions

WHOLE_200 = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


class Scripted(asyncio.Protocol):
    """Answers every request with `pieces`, written one by one; None closes the connection."""

    requests: list[bytes]

    def __init__(self, pieces: list[bytes | None], requests: list[bytes]) -> None:
        self.pieces, self.requests = pieces, requests
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.requests.append(data)
        asyncio.get_running_loop().create_task(self.answer())

    async def answer(self) -> None:
        for piece in self.pieces:
            if piece is None:
                self.transport.abort()
                return
            self.transport.write(piece)
            await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


def loaded(protocol: Callable[[], asyncio.Protocol], *, stream: bool = False, connections: int = 2, seconds: float = 0.1) -> Load:
    async def run() -> Load:
        async with serving(protocol) as url:
            request = load.request_bytes(url, key="k", model="bench", stream=stream)
            return await load.run(url, request, connections=connections, seconds=seconds)

    return asyncio.run(run())


def scripted(*pieces: bytes | None) -> tuple[Load, list[bytes]]:
    requests: list[bytes] = []
    return loaded(lambda: Scripted(list(pieces), requests)), requests


@pytest.mark.parametrize("stream", [False, True])
def test_the_benchmarks_provider_answers_every_call(stream: bool) -> None:
    done = loaded(upstream.Answering, stream=stream)
    assert not done.failures
    assert done.calls > 20
    assert 0 < done.percentile_ms(0.5) <= done.percentile_ms(0.99) < 1000


@pytest.mark.parametrize(
    "pieces",
    [
        [WHOLE_200],
        [WHOLE_200[:5], WHOLE_200[5:30], WHOLE_200[30:-1], WHOLE_200[-1:]],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n", b"0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"\r\n"],
    ],
    ids=["at once", "in pieces", "chunked", "an empty stream"],
)
def test_one_call_is_sent_for_each_whole_answer(pieces: list[bytes | None]) -> None:
    done, requests = scripted(*pieces)
    assert not done.failures
    assert done.calls == len(requests) > 2


def test_a_call_lasts_until_the_last_piece_of_its_answer() -> None:
    done, _ = scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"a", b"b", b"c", b"d", b"e")
    assert done.percentile_ms(0) >= 8


def test_other_answers_than_200_are_failures_by_their_status() -> None:
    done, requests = scripted(TOO_MANY)
    assert done.calls == 0
    assert done.failures == {b"429": len(requests)}


def test_a_lost_connection_is_a_failure_and_its_call_is_not_counted() -> None:
    done, _ = scripted(WHOLE_200[:20], None)
    assert (done.calls, done.failures) == (0, {b"connection lost": 2})


def test_calls_that_are_never_answered_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DRAIN_SECONDS", 0.05)
    done, _ = scripted(WHOLE_200[:20])
    assert (done.calls, done.failures) == (0, {b"no answer": 2})


@pytest.mark.parametrize("url", ["http://example.com/v1", "http://10.0.0.1:80/v1", "http://127.0.0.1.example.com/v1", "/v1", ""])
def test_no_other_machine_is_ever_loaded(url: str) -> None:
    with pytest.raises(ValueError, match="this machine only"):
        asyncio.run(load.run(url, b"", connections=1, seconds=1))


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_latencies(latencies: list[float], share: float) -> None:
    run = Load(1.0, latencies)
    assert run.percentile_ms(share) in [latency * 1000 for latency in latencies]
    assert run.percentile_ms(0) == min(latencies) * 1000
    assert run.percentile_ms(1) == max(latencies) * 1000


def test_without_an_answer_there_is_no_percentile() -> None:
    assert Load(1.0).percentile_ms(0.5) != Load(1.0).percentile_ms(0.5)  # not a number


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_chat_completion_of_about_half_a_kilobyte(stream: bool) -> None:
    head, _, body = load.request_bytes("http://127.0.0.1:81/v1", key="gh_sk_x", model="bench", stream=stream).partition(
        b"\r\n\r\n"
    )
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert {"Host: 127.0.0.1:81", "Authorization: Bearer gh_sk_x", f"Content-Length: {len(body)}"} <= set(lines)
    parsed = json.loads(body)
    assert (parsed["model"], parsed.get("stream", False)) == ("bench", stream)
    assert 400 < len(body) < 700


def test_the_gateway_reads_the_request_as_what_it_means() -> None:
    *_, body = load.request_bytes("http://127.0.0.1/v1", key="k", model="bench", stream=True).partition(b"\r\n\r\n")
    request = chat_completions.parse(body)
    assert (request.model, request.stream) == ("bench", True)


def test_the_providers_stream_has_as_many_frames_as_it_says_and_ends_with_usage() -> None:
    async def read() -> list[str]:
        async with serving(upstream.Answering) as url, httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{url}/chat/completions", json={"stream": True})
            assert answer.headers["content-type"] == "text/event-stream"
            return [line.removeprefix("data: ") for line in answer.text.splitlines() if line]

    *frames, usage, done = asyncio.run(read())
    assert len(frames) + 2 == upstream.FRAMES
    assert done == "[DONE]"
    assert json.loads(usage)["usage"]["total_tokens"] == 141
    assert json.loads(frames[-1])["choices"][0]["finish_reason"] == "stop"
    assert "".join(json.loads(frame)["choices"][0]["delta"].get("content", "") for frame in frames).startswith("The quick")


def test_the_providers_whole_answer_is_json_with_tokens_that_add_up() -> None:
    async def read() -> Any:
        async with serving(upstream.Answering) as url, httpx.AsyncClient(trust_env=False) as client:
            answers = [await client.post(f"{url}/chat/completions", json={"n": number}) for number in range(3)]
            return [answer.json() for answer in answers]

    first, second, third = asyncio.run(read())
    assert first == second == third
    assert first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"] == first["usage"]["total_tokens"]


def test_the_provider_waits_for_a_whole_request_and_answers_several_at_once() -> None:
    async def read() -> tuple[int, bytes]:
        async with serving(upstream.Answering) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
            request = load.request_bytes(url, key="k", model="m", stream=False)
            writer.write(request[:-3])
            await asyncio.sleep(0.02)
            early = len(reader._buffer)  # type: ignore[attr-defined]
            writer.write(request[-3:] + request)
            answers = await reader.readexactly(2 * len(upstream.WHOLE))
            writer.close()
            return early, answers

    early, answers = asyncio.run(read())
    assert early == 0
    assert answers == upstream.WHOLE * 2
