"""One connection to a provider, fed by hand: what arrives is read the same however it is cut, and never for another answer."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.providers import connection as connections
from proxy.providers.connection import Broken, Connection
from tests.examples import some

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"content-length: 0\r\n\r\n"
REQUEST = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    """What a connection believes to be a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.is_paused = self.is_closed = False
        self.unsent = 0

    def write(self, content: Any) -> None:
        assert not self.is_closed
        self.sent.append(bytes(content))

    def writelines(self, parts: Any) -> None:
        self.sent.extend(parts)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Ends(NamedTuple):
    """A connection and its wire; whoever it told that it has gone."""

    connection: Connection
    wire: Wire
    gone: list[Connection]

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if piece and not self.wire.is_closed:
                self.connection.data_received(piece)

    def end(self, error: Exception | None = None) -> None:
        self.wire.is_closed = True
        self.connection.connection_lost(error)

    def ask(self) -> None:
        self.connection.ask(REQUEST, b"{}")

    def body(self) -> bytes:
        """All of it. Raises Broken."""
        parts = []
        while self.connection.has_news and (part := self.connection.take()):
            parts.append(part)
        return b"".join(parts)

    def refuses(self) -> bool:
        """Whether the answer is broken, as whoever reads it would see."""
        try:
            self.body()
        except Broken:
            return True
        return False


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


# Where nothing waits, none is needed.
NO_LOOP: Any = None


def asked(loop: asyncio.AbstractEventLoop = NO_LOOP) -> Ends:
    gone: list[Connection] = []
    ends = Ends(Connection(loop, ended=gone.append), Wire(), gone)
    ends.connection.connection_made(ends.wire)
    ends.ask()
    return ends


class Answer(NamedTuple):
    """As it is sent, and as it is to be read."""

    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    # Of what was sent, before the body: where an answer lasts as long as its connection, all behind it counts.
    head: int
    lasts: bool


NAMES = st.sampled_from(["x-request-id", "Server", "retry-after", "X-Odd_Name!", "content-type"])
VALUES = st.text("abcXYZ019 ,;=\"'()/ü\u00ff", max_size=20).map(str.strip)
HEADERS = st.dictionaries(NAMES, VALUES, max_size=4)
INTERIM = st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nx-a: b\r\n\r\n"])
TRAILERS = st.sampled_from([b"", b"x-sum: 1\r\n", b"X-A: b\r\nx-c: d\r\n"])
EXTENSION = st.sampled_from([b"", b";a", b";a=b", b';a="b c"', b" "])


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    status = draw(st.sampled_from([200, 200, 200, 201, 204, 304, 400, 429, 500, 599]))
    headers, pieces = draw(HEADERS), draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
    framing = draw(st.sampled_from(["length", "chunks", "connection"])) if status not in (204, 304) else "none"
    body = b"".join(pieces) if framing != "none" else b""
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
    content = body
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "chunks":
        lines.append(b"Transfer-Encoding: Chunked")
        chunks = [b"%x%s\r\n%s\r\n" % (len(piece), draw(EXTENSION), piece) for piece in pieces]
        content = b"".join(chunks) + b"0\r\n" + draw(TRAILERS) + b"\r\n"
    interims = b"".join(draw(st.lists(INTERIM, max_size=2)))
    head = interims + b"\r\n".join([b"HTTP/1.1 %d %s" % (status, draw(st.sampled_from([b"OK", b""]))), *lines]) + b"\r\n\r\n"
    known = {name.lower(): value for name, value in headers.items()}
    known |= {"length": {"content-length": str(len(body))}, "chunks": {"transfer-encoding": "Chunked"}}.get(framing, {})
    return Answer(head + content, status, known, body, len(head), framing == "connection")


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(bounds)]


def is_read(ends: Ends, answer: Answer) -> bool:
    connection = ends.connection
    assert (connection.status, connection.headers, ends.body()) == (answer.status, answer.headers, answer.body)
    return connection.complete


@settings(max_examples=some(40))
@given(answers(), st.lists(st.integers(0, 10_000), max_size=8))
def test_an_answer_is_the_same_wherever_it_is_cut(answer: Answer, places: list[int]) -> None:
    ends = asked()
    ends.feed(*cut(answer.raw, places))
    if answer.lasts:
        assert not ends.connection.complete
        ends.end()
    assert is_read(ends, answer)
    assert ends.connection.can_be_used_again != answer.lasts


@settings(max_examples=some(40))
@given(answers())
def test_an_answer_that_ends_too_early_is_broken_at_every_byte(answer: Answer) -> None:
    for place in range(len(answer.raw)):
        ends = asked()
        ends.feed(answer.raw[:place])
        ends.end()
        if answer.lasts and place >= answer.head:
            assert is_read(ends, answer._replace(body=answer.raw[answer.head : place]))
        elif not ends.connection.complete:
            assert ends.refuses()
            assert not ends.connection.can_be_used_again


@settings(max_examples=some(40))
@given(st.lists(st.tuples(answers().filter(lambda answer: not answer.lasts), st.booleans()), min_size=1, max_size=4))
def test_one_connection_brings_one_answer_after_another(several: list[tuple[Answer, bool]]) -> None:
    """Whether or not anybody took what the one before brought."""
    ends = asked()
    ends.feed(EMPTY)
    for answer, is_taken in several:
        ends.ask()
        assert not ends.connection.has_news
        ends.feed(answer.raw)
        assert not is_taken or is_read(ends, answer)
        assert ends.connection.can_be_used_again


@settings(max_examples=some(40))
@given(answers(), st.data())
def test_whatever_arrives_is_an_answer_or_broken(answer: Answer, data: st.DataObject) -> None:
    """Nothing is raised into the event loop, and nothing waits for ever."""
    raw = bytearray(answer.raw)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    ends = asked()
    ends.feed(*cut(bytes(raw), data.draw(st.lists(st.integers(0, 10_000), max_size=4))))
    ends.end()
    assert ends.connection.complete or ends.refuses()
    assert ends.gone == [ends.connection]


@pytest.mark.parametrize(
    ("head", "goes_on"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nconnection: x, close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n", True),
        (b"HTTP/1.1 426 No\r\nupgrade: h2c\r\nconnection: upgrade\r\n", True),
    ],
)
def test_both_sides_decide_whether_it_goes_on(head: bytes, goes_on: bool) -> None:
    ends = asked()
    ends.feed(head + b"content-length: 2\r\n\r\nab")
    assert (ends.connection.complete, ends.connection.can_be_used_again) == (True, goes_on)


def test_it_is_not_used_again_while_the_request_is_still_on_its_way() -> None:
    """A 413, say, before all was sent."""
    ends = asked()
    ends.wire.unsent = 1
    ends.feed(EMPTY)
    assert not ends.connection.can_be_used_again
    ends.wire.unsent = 0
    assert ends.connection.can_be_used_again


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length:\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n",
        b"HTTP/1.1 200 OK\r\nx : a\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\rb: c\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n",
        b"HTTP/1.1 101 Switching\r\n",
        b"HTTP/1.1 099 Low\r\n",
        b"HTTP/1.1 000 None\r\n",
        b"HTTP/1.1 1000 High\r\n",
        b"HTTP/9.9 200 OK\r\n",
        b"ICY 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>\r\n",
        b"\x16\x03\x01\x00\x00",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_or_none_is_no_answer(head: bytes) -> None:
    ends = asked()
    ends.feed(head + b"\r\nab")
    assert ends.refuses()
    assert ends.wire.is_closed
    assert ends.connection.status == 0


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (b"HTTP/1.1 200 OK\nx: a\ncontent-length: 2\n\nab", {"x": "a", "content-length": "2"}),
        (b"HTTP/1.1 200 OK\r\nx: a\r\n  b\r\ncontent-length: 2\r\n\r\nab", {"x": "a  b", "content-length": "2"}),
        (b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:   2  \r\n\r\nab", {"content-length": "2"}),
        (b"HTTP/1.1 200\r\nX: \xc3\xbc\r\ncontent-length: 2\r\n\r\nab", {"x": "Ã¼", "content-length": "2"}),
        (b"HTTP/1.1 200 OK\r\nx: 1\r\nX: 2\r\ncontent-length: 2\r\n\r\nab", {"x": "2", "content-length": "2"}),
        (OK + b"transfer-encoding: chunked\r\n\r\n002 \r\nab\r\n0\r\n\r\n", {"transfer-encoding": "chunked"}),
        (OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", {"transfer-encoding": "gzip, chunked"}),
    ],
    ids=["bare-lf", "folded", "blank-lines-before", "not-ascii", "twice", "padded-chunk", "two-codings"],
)
def test_what_other_clients_forgive_is_forgiven(raw: bytes, headers: dict[str, str]) -> None:
    ends = asked()
    ends.feed(raw)
    assert is_read(ends, Answer(raw, 200, headers, b"ab", 0, False))


@pytest.mark.parametrize(
    "broken",
    [b"zz\r\n", b"ffffffffffffffffff\r\n", b"2\r\nabc\r\n", b"-1\r\n"],
    ids=["no-number", "overflow", "longer", "negative"],
)
def test_what_came_before_a_broken_chunk_is_read_first(broken: bytes) -> None:
    ends = asked()
    ends.feed(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", broken)
    assert ends.connection.take().startswith(b"hello")
    with pytest.raises(Broken):
        ends.connection.take()


@pytest.mark.parametrize(
    "raw", [EMPTY, OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n"]
)
@pytest.mark.parametrize("surplus", [b"more", EMPTY, b"H", b"\x00"], ids=["more", "an-answer", "its-begin", "nul"])
@pytest.mark.parametrize("at_once", [True, False])
def test_whoever_says_more_than_was_asked_is_not_asked_again(raw: bytes, surplus: bytes, at_once: bool) -> None:
    ends = asked()
    ends.feed(*([raw + surplus] if at_once else [raw, surplus]))
    assert ends.connection.complete
    assert ends.body() == b""
    assert not ends.connection.can_be_used_again


def test_a_reset_is_no_end_of_a_body_that_lasts_as_long_as_its_connection() -> None:
    ends = asked()
    ends.feed(OK + b"\r\nabc")
    ends.end(ConnectionResetError())
    assert ends.connection.take() == b"abc"
    assert ends.refuses()


@pytest.mark.parametrize("coding", [b"chunked, gzip", b"CHUNKED"])
def test_chunks_that_were_promised_are_waited_for(coding: bytes) -> None:
    ends = asked()
    ends.feed(OK + b"transfer-encoding: " + coding + b"\r\n\r\n")
    ends.end()
    assert ends.refuses()


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (OK, b"x-y: " + b"z" * 995),
        (OK, b"x-%d: y\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n" * 30),
        (b"", b"\r\n" * 500),
        (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-y:", b"z" * 1000),
        (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", b"x: y\r\n" * 170),
        (OK + b"transfer-encoding: chunked\r\n\r\n2;", b"a" * 1000),
    ],
    ids=["header", "headers", "interims", "blank-lines", "trailer", "trailers", "chunk-extension"],
)
def test_what_has_no_end_and_is_no_body_is_cut(begin: bytes, more: bytes) -> None:
    ends = asked()
    ends.feed(begin)
    fed = 0
    while not ends.wire.is_closed:
        ends.feed(more)
        fed += len(more)
        assert fed < 2 * connections.MAX_HEAD_BYTES
    assert fed > connections.MAX_HEAD_BYTES - 2000
    ends.end()
    assert ends.refuses()


def test_a_body_may_be_as_long_as_it_likes() -> None:
    ends = asked()
    ends.feed(OK + b"transfer-encoding: chunked\r\n\r\n")
    for _ in range(100):
        ends.feed(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        assert len(ends.connection.take()) == 0x8000
    ends.feed(b"0\r\n\r\n")
    assert ends.connection.can_be_used_again


def test_the_provider_waits_while_nobody_reads() -> None:
    ends = asked()
    ends.feed(OK + b"content-length: 1000000\r\n\r\n")
    fed = 0
    while not ends.wire.is_paused:
        ends.feed(b"x" * 50_000)
        fed += 50_000
    assert connections.MOST_UNREAD_BYTES < fed <= connections.MOST_UNREAD_BYTES + 50_000
    assert len(ends.connection.take()) == fed
    assert not ends.wire.is_paused


def test_nobody_would_hear_of_the_end_of_a_paused_connection_so_it_is_read_before_it_is_used_again() -> None:
    ends = asked()
    ends.feed(OK + b"content-length: 300000\r\n\r\n" + b"x" * 300_000)
    assert (ends.wire.is_paused, ends.connection.can_be_used_again) == (True, False)
    assert len(ends.connection.take()) == 300_000
    assert (ends.wire.is_paused, ends.connection.can_be_used_again) == (False, True)
    ends.ask()
    ends.feed(OK + b"content-length: 2\r\n\r\nab")
    assert ends.body() == b"ab"


@pytest.mark.parametrize("size", [0, 10, connections.JOINED_BYTES - 1, connections.JOINED_BYTES, 3 * connections.JOINED_BYTES])
def test_head_and_body_are_sent_as_they_are(size: int) -> None:
    ends = asked()
    ends.feed(EMPTY)
    ends.wire.sent.clear()
    ends.connection.ask(REQUEST, b"x" * size)
    assert b"".join(ends.wire.sent) == REQUEST + b"x" * size
    assert len(ends.wire.sent) == (1 if size < connections.JOINED_BYTES else 2)


def test_closing_twice_is_closing_once_and_nothing_more_is_sent() -> None:
    ends = asked()
    ends.connection.close()
    ends.connection.close()
    ends.wire.sent.clear()
    ends.ask()
    assert ends.wire.sent == []
    assert ends.refuses()
    ends.end()
    assert (ends.gone, ends.connection.is_open) == ([ends.connection], False)


def test_what_a_server_says_before_it_is_asked_closes_the_connection() -> None:
    """It would be taken for the answer to whatever is asked next."""
    gone: list[Connection] = []
    ends = Ends(Connection(NO_LOOP, ended=gone.append), Wire(), gone)
    ends.connection.connection_made(ends.wire)
    ends.feed(EMPTY)
    assert ends.wire.is_closed


def turns(count: int) -> Awaitable[None]:
    async def take() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    return take()


@pytest.mark.parametrize("ending", ["answer", "end", "garbage", "cancel"])
def test_whoever_waits_for_the_head_learns_how_it_ended(loop: asyncio.AbstractEventLoop, ending: str) -> None:
    async def wait() -> str:
        ends = asked(loop)
        waiting = loop.create_task(ends.connection.answered())
        await turns(2)
        ends.feed(b"HTTP/1.1 100 Continue\r\n\r\n")  # no answer yet
        await turns(2)
        assert not waiting.done()
        if ending == "cancel":
            waiting.cancel()
        elif ending == "end":
            ends.end()
        else:
            ends.feed(EMPTY if ending == "answer" else b"garbage")
        await asyncio.wait([waiting])
        return "cancel" if waiting.cancelled() else type(waiting.exception()).__name__

    expected = {"answer": "NoneType", "end": "Broken", "garbage": "Broken", "cancel": "cancel"}
    assert loop.run_until_complete(wait()) == expected[ending]


def test_a_connection_at_which_somebody_still_waits_is_not_used_again(loop: asyncio.AbstractEventLoop) -> None:
    """What that one read next would be another's answer."""

    async def wait() -> tuple[bool, bool]:
        ends = asked(loop)
        ends.feed(OK + b"content-length: 2\r\n\r\n")
        waiting = loop.create_task(ends.connection.news())
        await turns(2)
        ends.feed(b"ab")
        before = ends.connection.can_be_used_again
        await waiting
        return before, ends.connection.can_be_used_again

    assert loop.run_until_complete(wait()) == (False, True)


def test_an_exchange_leaves_no_garbage(loop: asyncio.AbstractEventLoop) -> None:
    """That only the collector of cycles finds: it would stop the process more often."""

    async def exchange(ends: Ends) -> None:
        ends.ask()
        waiting = loop.create_task(ends.connection.answered())
        await turns(1)
        ends.feed(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", b"0\r\n\r\n")
        await waiting
        assert ends.body() == b"ab"

    async def many() -> int:
        ends = asked(loop)
        ends.feed(EMPTY)
        await exchange(ends)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await exchange(ends)
            return gc.collect()
        finally:
            gc.enable()

    assert loop.run_until_complete(many()) < 20


@pytest.mark.parametrize(
    ("sent", "garbled"),
    [
        (b"SSH-2.0-OpenSSH\r\n", True),
        (OK + b"content-length: -1\r\n\r\n", True),
        (OK, False),
        (b"", False),
        (OK + b"content-length: 9\r\n\r\nab", False),
    ],
)
def test_what_is_no_http_is_told_from_what_ended_too_soon(sent: bytes, garbled: bool) -> None:
    ends = asked()
    if sent:
        ends.feed(sent)
    ends.end()
    with pytest.raises(Broken) as raised:
        ends.body()
    assert raised.value.garbled is garbled
