"""The caller reads an answer right however it is cut, and hangs up where it is told to."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.torture import client
from tests.torture.callers import outcome_of, reason, seen_as_call
from tests.torture.client import DONE, Leave, Seen, parse
from tests.torture.history import Refusal
from tests.torture.mix import Asked
from tests.torture.provider import Provider, Script

WHOLE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: abc\r\nContent-Length: 11\r\n\r\n{"a": "b c"}'[:-1]
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    b'12\r\ndata: {"b": "c"}\n\n\r\n' + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("answer", [WHOLE, STREAM], ids=["whole", "stream"])
def test_an_answer_has_ended_with_its_last_byte_and_not_before(answer: bytes) -> None:
    for length in range(len(answer) + 1):
        seen = Seen()
        parse(answer[:length], into=seen)
        assert seen.ended is (length == len(answer)), length


def test_what_was_read_of_a_whole_answer() -> None:
    seen = Seen()
    parse(WHOLE, into=seen)

    assert (seen.status, seen.request_id, seen.body, seen.complete) == (200, "abc", b'{"a": "b c"', True)


def test_a_stream_is_complete_with_its_terminal_bytes_even_if_the_last_chunk_is_missing() -> None:
    seen = Seen()
    parse(STREAM[: -len(b"\r\n0\r\n\r\n")], into=seen)
    assert (seen.complete, seen.ended) == (True, False)

    parse(STREAM[: STREAM.index(DONE) + 3], into=(cut := Seen()))
    assert (cut.complete, outcome_of(cut)) == (False, "broken")


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (Seen(), "broken"),
        (Seen(left=True), "left"),
        (Seen(200, {}, b"{}", ended=True), "complete"),
        (Seen(200, {}, b"{", ended=False), "broken"),
        (Seen(403, {}, b"{}", ended=True), "refused"),
        (Seen(403, {}, b"{", ended=False), "broken"),
        (Seen(502, {}, b"{}", ended=True), "failed"),
        (Seen(200, {"content-type": "text/event-stream"}, b'data: {"error": {}}\n\n', ended=True), "failed"),
        (Seen(200, {"content-type": "text/event-stream"}, b'data: {"choices": []}\n\n', ended=True), "broken"),
        (
            Seen(
                200,
                {"content-type": "text/event-stream"},
                b'data: {}\n\ndata: {"error": {"code": "key_revoked"}}\n\n',
                ended=True,
            ),
            "cut",
        ),
    ],
)
def test_how_a_call_ended_for_its_client(seen: Seen, outcome: str) -> None:
    assert outcome_of(seen) == outcome


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"code": "rate_limit_exceeded"}}', ("rate_limit_exceeded", None)),
        (b'{"error": {"code": "insufficient_credits", "gatehouse": {"node": "x"}}}', Refusal("credit pool", "total")),
        (b'{"error": {"code": "budget_exceeded", "gatehouse": {"node": "north", "window": "day"}}}', Refusal("north", "day")),
        (b"<html>", ("unreadable", None)),
    ],
)
def test_which_budget_refused(body: bytes, expected: Any) -> None:
    found = reason(Seen(403, {}, body, ended=True))

    assert expected in (found, found[1])


@pytest.fixture
def served() -> Callable[..., Seen]:
    """Calls the stand-in provider directly."""

    def ask(script: Script, *, stream: bool, leave: Leave = client.STAY) -> Seen:
        async def run() -> Seen:
            provider = await Provider().start()
            try:
                body = script.request(model="m", max_tokens=10, stream=stream)
                return await client.call(provider.port, key="k", body=body, leave=leave)
            finally:
                await provider.stop()

        return asyncio.run(run())

    return ask


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_stays_gets_everything(served: Callable[..., Seen], stream: bool) -> None:
    seen = served(Script(1, 5, 7, words=3), stream=stream)

    assert seen.complete
    assert (b'"completion_tokens": 7' in seen.body, b"word0002" in seen.body) == (True, True)


@pytest.mark.parametrize(("ending", "is_whole"), [("ok", True), ("stall", False), ("cut", False)])
def test_a_stream_is_whole_with_its_last_word(served: Callable[..., Seen], ending: Any, is_whole: bool) -> None:
    script = Script(1, 5, 7, words=3, gap=0.2, ending=ending)
    began = time.time()
    seen = served(script, stream=True, leave=Leave("sent", seconds=2))
    asked = Asked(script, model=0, max_tokens=10, stream=True, leave=client.STAY)

    def whole_at(seen: Seen) -> float:
        return seen_as_call(seen, asked, number=1, key="k", subjects=(), worker=0, began=began, ended=0.0, body=b"{}").whole_at

    assert (began + 0.4 <= whole_at(seen) < time.time()) is is_whole
    assert whole_at(Seen(words=2, said_last=began)) == math.inf


@pytest.mark.parametrize(("deltas", "words"), [(1, 1), (3, 3)])
def test_a_caller_leaves_after_so_many_deltas(served: Callable[..., Seen], deltas: int, words: int) -> None:
    seen = served(Script(1, 5, 7, words=6, gap=0.2), stream=True, leave=Leave("deltas", deltas=deltas))

    assert seen.left
    assert seen.body.count(b"word") == words


def test_a_caller_leaves_before_anything_came(served: Callable[..., Seen]) -> None:
    seen = served(Script(1, 5, 7, wait=5), stream=False, leave=Leave("sent", seconds=0.1))

    assert (seen.left, seen.status) == (True, 0)


def test_whoever_was_faster_than_the_caller_leaves_has_been_seen(served: Callable[..., Seen]) -> None:
    seen = served(Script(1, 5, 7), stream=False, leave=Leave("sent", seconds=2))

    assert (seen.left, seen.complete) == (False, True)


@pytest.mark.parametrize(("ending", "stream"), [("reset", False), ("cut", False), ("cut", True)])
def test_a_connection_that_breaks_ends_the_answer(served: Callable[..., Seen], ending: Any, stream: bool) -> None:
    assert outcome_of(served(Script(1, 5, 7, ending=ending), stream=stream)) == "broken"


@pytest.mark.parametrize(("ending", "stream"), [("status", False), ("error", True)])
def test_a_provider_that_says_so_failed(served: Callable[..., Seen], ending: Any, stream: bool) -> None:
    assert outcome_of(served(Script(1, 5, 7, ending=ending), stream=stream)) == "failed"
