"""What a replay makes of answers that a gateway should not give: an outcome each, never an exception."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_project.demo.trace import TracedCall
from gateway_project.replay import sending
from gateway_project.replay.sending import Outcome, Target, Unusable
from tests.examples import some

CALL = TracedCall(0.0, 3, 5)
USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 5}}
FRAME = b"data: " + json.dumps(USAGE).encode() + b"\n\n"
DONE = b"data: [DONE]\n\n"


class Server:
    """Answers every request with the same bytes and closes; `asked` holds what came in."""

    def __init__(self, answer: bytes, *, pause: float = 0) -> None:
        self.answer, self.pause = answer, pause
        self.asked: list[bytes] = []
        self.at_once = self.most_at_once = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        self.asked.append(head + await reader.readexactly(length))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.pause)
        self.at_once -= 1
        writer.write(self.answer)
        writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


def http(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body


def sent(server: Server, *calls: TracedCall, stream: bool = False, speed: float = 0, concurrency: int = 1) -> list[Outcome]:
    async def run() -> list[Outcome]:
        async with serving(server) as url:
            target = Target(url, "gh_sk_x", "m", stream)
            return await sending.send(iter(calls or [CALL]), target=target, speed=speed, concurrency=concurrency)

    return asyncio.run(run())


def outcome(answer: bytes, *, stream: bool = False) -> Outcome:
    (only,) = sent(Server(answer), stream=stream)
    assert only.latency_ms > 0
    return only


def test_a_whole_answer_tells_its_id_tokens_and_exact_cost() -> None:
    answer = http(json.dumps(USAGE).encode(), headers="x-request-id: 7\r\nx-gatehouse-cost-usd: 0.000000123\r\n")
    assert outcome(answer)[1:] == ("", "7", 3, 5, Decimal("0.000000123"))


def test_a_gateway_that_tells_no_cost_leaves_it_open() -> None:
    assert outcome(http(json.dumps(USAGE).encode())).cost_usd is None


@pytest.mark.parametrize("cost", ["free", "", "NaN", "Infinity", "1,5"])
def test_a_cost_that_is_no_amount_is_a_malformed_answer(cost: str) -> None:
    answer = http(json.dumps(USAGE).encode(), headers=f"x-gatehouse-cost-usd: {cost}\r\n")
    assert outcome(answer).error == "malformed_answer"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b'{"usage":null}', b'{"usage":{"prompt_tokens":"3"}}', b"\xff\xfe", b'{"usage":{}', b'"x"'],
)
def test_a_200_without_usage_is_malformed(body: bytes) -> None:
    assert outcome(http(body)).error == "malformed_answer"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        ("402 Payment Required", b'{"error":{"code":"budget_exceeded"}}', "budget_exceeded"),
        ("500 Oops", b"<html>", "http_500"),
        ("503 Away", b'{"error":{"code":null}}', "http_503"),
        ("429 Slow", b'{"error":"slow down"}', "http_429"),
        ("404 Not Found", b"", "http_404"),
        ("204 No Content", b"", "http_204"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_told_by_its_code_or_else_its_status(status: str, body: bytes, error: str, stream: bool) -> None:
    told = outcome(http(body, status=status, headers="x-request-id: 7\r\n"), stream=stream)
    assert (told.error, told.request_id, told.input_tokens, told.cost_usd) == (error, "7", 0, None)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n", http(b"x" * 50)[:-20]])
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_connection_is_an_outcome_too(answer: bytes, stream: bool) -> None:
    assert outcome(answer, stream=stream).error == "connection_failed"


def streamed(*parts: bytes) -> Outcome:
    return outcome(http(b"".join(parts), headers="content-type: text/event-stream\r\n"), stream=True)


def test_a_stream_is_complete_with_its_end_and_tells_its_tokens() -> None:
    told = streamed(b'data: {"choices":[]}\n\n', FRAME, DONE)
    assert (told.error, told.input_tokens, told.output_tokens, told.cost_usd) == ("", 3, 5, None)


def test_a_stream_without_an_end_is_broken() -> None:
    assert streamed(FRAME).error == "stream_broken"
    assert streamed().error == "stream_broken"


def test_an_error_in_a_stream_ends_it() -> None:
    assert streamed(b'data: {"error":{"code":"provider_error"}}\n\n', DONE).error == "provider_error"
    assert streamed(b'data: {"error":{}}\n\n', DONE).error == "stream_error"


@pytest.mark.parametrize(
    "other", [b": ping\n\n", b"event: message\n", b"id: 4\n", b"retry: 100\n", b"\n\n\n", b"data:\n\n", b": \xff\n"]
)
def test_lines_of_a_stream_that_carry_no_frame_are_passed_over(other: bytes) -> None:
    assert streamed(other, FRAME, other, DONE).error == ""


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("space", [b"", b" "])
def test_every_way_of_writing_a_frame_is_read(ends: bytes, space: bytes) -> None:
    frame, done = b"data:" + space + json.dumps(USAGE).encode(), b"data:" + space + b"[DONE]"
    told = streamed(frame, ends * 2, done, ends * 2)
    assert (told.error, told.output_tokens) == ("", 5)


@pytest.mark.parametrize("frame", [b"data: {\n\n", b"data: <html>\n\n", b"data: \xff\n\n", b"data: []\n\n"])
def test_a_frame_that_is_none_makes_the_answer_malformed(frame: bytes) -> None:
    assert streamed(FRAME, frame, DONE).error == "malformed_answer"


def test_a_line_without_an_end_is_malformed_not_a_crash() -> None:
    assert streamed(b'data: {"x":"' + b"y" * 1_000_000).error == "malformed_answer"


@settings(max_examples=some(25), deadline=None)
@given(body=st.binary(max_size=80), stream=st.booleans())
def test_any_bytes_at_all_are_an_outcome(body: bytes, stream: bool) -> None:
    assert outcome(http(body), stream=stream).error


def test_every_call_is_sent_once_and_says_what_was_recorded() -> None:
    server = Server(http(json.dumps(USAGE).encode()))
    calls = [TracedCall(0.0, number, number + 1) for number in range(12)]
    assert len(sent(server, *calls, concurrency=3)) == 12
    bodies: list[Any] = [json.loads(asked.partition(b"\r\n\r\n")[2]) for asked in server.asked]
    asked = sorted((body["metadata"]["sandbox"]["input_tokens"], body["max_tokens"]) for body in bodies)
    assert asked == [(number, number + 1) for number in range(12)]
    assert all(b"bearer gh_sk_x" in head.lower() for head in server.asked)


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (4, 4), (50, 10)])
def test_never_more_at_once_than_asked(concurrency: int, most: int) -> None:
    server = Server(http(json.dumps(USAGE).encode()), pause=0.03)
    sent(server, *[CALL] * 10, concurrency=concurrency)
    assert server.most_at_once == most


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http(b'{"data":[{"id":"other"}]}'), "offers no model 'm'"),
        (http(b'{"data":[]}'), "offers no model"),
        (http(b"<html>"), "is not a gateway"),
        (http(b'{"error":{"code":"invalid_api_key"}}', status="401 No"), "401 invalid_api_key"),
        (http(b"", status="500 Oops"), "does not take this key: 500"),
        (b"", "cannot be reached"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "cannot be reached"),
    ],
)
def test_before_the_first_call_the_gateway_is_asked_whether_it_can(answer: bytes, reason: str) -> None:
    async def run() -> None:
        async with serving(Server(answer)) as url:
            await sending.check(Target(url, "k", "m"))

    with pytest.raises(Unusable, match=reason):
        asyncio.run(run())


@pytest.mark.parametrize("url", ["", "not an address", "http://", "http://[::1", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(Unusable, match="cannot be reached"):
        asyncio.run(sending.check(Target(url, "k", "m")))
