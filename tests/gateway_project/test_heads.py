"""Heads of answers leave with what follows them, and never later than without that."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from gateway_project.embedded.heads import Connection, Joining
from gateway_project.lib.lean import UntilClientGone, read_body

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
Send = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]


class Wire(asyncio.Transport):
    """Keeps what is written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed_after: int | None = None

    def write(self, piece: Any) -> None:
        self.pieces.append(bytes(piece))

    def close(self) -> None:
        self.closed_after = len(self.pieces)

    def is_closing(self) -> bool:
        return self.closed_after is not None


def on_a_wire(work: Callable[[Joining, Wire], Coroutine[Any, Any, None]]) -> Wire:
    async def run() -> Wire:
        wire = Wire()
        await work(Joining(wire, asyncio.get_running_loop()), wire)
        await asyncio.sleep(0)
        return wire

    return asyncio.run(run())


@pytest.mark.parametrize("body", [b"body", bytearray(b"body"), memoryview(b"body")])
def test_a_head_and_its_body_are_one_write(body: Any) -> None:
    async def work(joining: Joining, wire: Wire) -> None:
        joining.write(HEAD)
        assert wire.pieces == []
        joining.write(body)
        assert wire.pieces == [HEAD + b"body"]
        joining.write(b"more")

    assert on_a_wire(work).pieces == [HEAD + b"body", b"more"]


def test_a_head_alone_waits_for_no_more_than_this_turn_of_the_loop() -> None:
    async def work(joining: Joining, wire: Wire) -> None:
        joining.write(HEAD)
        await asyncio.sleep(0)
        assert wire.pieces == [HEAD]
        joining.write(b"late")

    assert on_a_wire(work).pieces == [HEAD, b"late"]


def test_an_answer_without_body_leaves_before_the_connection_is_closed() -> None:
    async def work(joining: Joining, wire: Wire) -> None:
        joining.write(HEAD)
        joining.close()

    wire = on_a_wire(work)
    assert (wire.pieces, wire.closed_after) == ([HEAD], 1)


def test_an_empty_body_lets_the_head_go_and_two_heads_keep_their_order() -> None:
    async def work(joining: Joining, wire: Wire) -> None:
        joining.write(HEAD)
        joining.write(b"")
        joining.write(HEAD)
        joining.write(HEAD)

    assert b"".join(on_a_wire(work).pieces) == HEAD * 3


def test_several_pieces_at_once_follow_the_head_that_waits() -> None:
    async def work(joining: Joining, wire: Wire) -> None:
        joining.write(HEAD)
        joining.writelines([b"bo", b"dy"])

    assert on_a_wire(work).pieces == [HEAD + b"body"]


def test_all_else_is_the_transports_own() -> None:
    async def work(joining: Joining, wire: Wire) -> None:
        assert joining.is_closing() is False
        joining.close()
        assert joining.is_closing() is True

    on_a_wire(work)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """The port of a server with this application."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


def test_a_client_has_the_head_while_the_body_is_still_to_come() -> None:
    async def run() -> None:
        go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-first", b"1")]})
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"HTTP/1.1 is what this body begins with", "more_body": True})
            await send({"type": "http.response.body", "body": b"."})

        async with (
            served(app) as port,
            httpx.AsyncClient() as client,
            client.stream("GET", f"http://127.0.0.1:{port}/") as answer,
        ):
            assert (answer.status_code, answer.headers["x-first"]) == (200, "1")
            go_on.set()
            assert await answer.aread() == b"HTTP/1.1 is what this body begins with."

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "status", "body"), [("HEAD", 200, b""), ("GET", 204, b""), ("GET", 304, b""), ("POST", 500, b"no")]
)
def test_answers_one_after_another_on_one_connection_keep_apart(method: str, status: int, body: bytes) -> None:
    async def run() -> None:
        async def app(scope: Any, receive: Any, send: Send) -> None:
            length = [(b"content-length", str(len(body)).encode())] if status not in (204, 304) else []
            await send({"type": "http.response.start", "status": status, "headers": length})
            await send({"type": "http.response.body", "body": body})

        async with served(app) as port, httpx.AsyncClient() as client:
            for _ in range(3):
                answer = await client.request(method, f"http://127.0.0.1:{port}/")
                assert (answer.status_code, answer.content) == (status, body)

    asyncio.run(run())


def until_gone(reached: asyncio.Event, ended: list[str], wait: asyncio.Event | None = None) -> Any:
    """An application that answers when it is let, or writes down that its client has gone."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        body = await read_body(scope, receive, limit=100)
        if wait is not None:
            await wait.wait()
        async with UntilClientGone(scope, receive) as until:
            try:
                reached.set()
                if body == b"at once":
                    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
                    await send({"type": "http.response.body", "body": b"ok"})
                    return
                await asyncio.Event().wait()
            finally:
                ended.append("gone" if until.client_gone else "answered")

    return app


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nUpgrade: h2c\r\n"
OFFER_IN_LINES = b"Connection: keep-alive, Upgrade\r\n" + OFFER.replace(b"Upgrade, ", b"", 1)
CHUNKED = b"transfer-encoding: chunked\r\n\r\n2\r\nHe\r\n3\r\nllo\r\n0\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("body", [b"content-length: 5\r\n\r\nHello", CHUNKED])
@pytest.mark.parametrize("offer", [OFFER, OFFER_IN_LINES])
def test_whoever_offers_another_protocol_is_answered_in_this_one_and_loses_no_body(offer: bytes, body: bytes, step: int) -> None:
    """As stock clients of the JDK do, one request after another and several at once."""
    asked: list[tuple[str, str, bytes, dict[bytes, bytes]]] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        asked.append((scope["method"], scope["path"], await read_body(scope, receive, limit=100), dict(scope["headers"])))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def run() -> None:
        request = b"POST /v1/x?y=%20z HTTP/1.1\r\nhost: x\r\nx-empty:\r\n" + offer + body
        async with served(app) as port, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for sent in (request, request, request * 2 + b"GET /last HTTP/1.1\r\nhost: x\r\n" + offer + b"\r\n"):
                for start in range(0, len(sent), step):
                    writer.write(sent[start : start + step])
                    await asyncio.sleep(0)
            for _ in range(5):
                assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(run())
    assert [one[:3] for one in asked] == [("POST", "/v1/x", b"Hello")] * 4 + [("GET", "/last", b"")]
    for *_, headers in asked[:4]:
        assert headers[b"x-empty"] == b""
        assert not headers.keys() & {b"upgrade", b"http2-settings"}


def asking(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_client_that_leaves_ends_what_is_done_for_it_whatever_its_connection_was_used_for_before(before: int) -> None:
    async def run() -> None:
        reached, ended = asyncio.Event(), list[str]()
        async with served(until_gone(reached, ended)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(before):
                writer.write(asking(b"at once"))
                assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
            reached.clear()
            writer.write(asking(b"wait"))
            await reached.wait()
            writer.close()
            async with asyncio.timeout(10):
                while len(ended) <= before:
                    await asyncio.sleep(0.005)
            assert ended == ["answered"] * before + ["gone"]

    asyncio.run(run())


def test_a_client_that_left_before_anybody_looked_is_gone_all_the_same() -> None:
    async def run() -> None:
        reached, ended, wait = asyncio.Event(), list[str](), asyncio.Event()
        async with served(until_gone(reached, ended, wait)) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(asking(b"wait"))
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.05)
            wait.set()
            async with asyncio.timeout(10):
                while not ended:
                    await asyncio.sleep(0.005)
            assert ended == ["gone"]

    asyncio.run(run())


def test_a_request_sent_ahead_is_served_after_the_one_before_and_ends_with_its_connection() -> None:
    async def run() -> None:
        reached, ended = asyncio.Event(), list[str]()
        async with served(until_gone(reached, ended)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(asking(b"at once") + asking(b"at once") + asking(b"wait"))
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\nok")
            while len(ended) < 2:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.02)
            writer.close()
            async with asyncio.timeout(10):
                while len(ended) < 3:
                    await asyncio.sleep(0.005)
            assert ended == ["answered", "answered", "gone"]

    asyncio.run(run())
