"""Pages in threads that stay: where a request runs, what holds a thread and what does not, and how a stream ends."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from pytest_django import Settings

from gateway_project.lib.lean import Message
from gateway_project.lib.threaded import ThreadedHandler

BODY: Message = {"type": "http.request", "body": b"what was written", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


class Seen:
    """What views and signals saw; they run in this process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.threads: list[int] = []
        self.finished: list[int] = []
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.streams_closed = 0


seen = Seen()


def echo(request: HttpRequest) -> HttpResponse:
    seen.threads.append(threading.get_ident())
    return HttpResponse(request.body, headers={"X-Query": request.GET.get("q", "")})


def waits(request: HttpRequest) -> HttpResponse:
    seen.entered.release()
    assert seen.leave.acquire(timeout=30)
    return HttpResponse()


def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a secret detail")


def in_the_loop(request: HttpRequest) -> HttpResponse:
    async def loop() -> int:
        return id(asyncio.get_running_loop())

    return HttpResponse(str(async_to_sync(loop)()))


def backend(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return HttpResponse(str(cursor.fetchone()[0]))


def hang_up(request: HttpRequest) -> HttpResponse:
    connection.close()
    return HttpResponse()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"one "
            yield b"two "
            if "endless" in request.GET:
                await asyncio.Event().wait()
        finally:
            seen.streams_closed += 1

    return StreamingHttpResponse(parts())


urlpatterns = [path(f"{view.__name__}/", view) for view in (echo, waits, fails, in_the_loop, backend, hang_up, stream)]


@pytest.fixture(autouse=True)
def routes(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    seen.forget()


class Client:
    """One request. `messages` is what the handler receives, one by one; what it sends comes through `sent`."""

    def __init__(self, handler: ThreadedHandler, target: str, *, method: str = "GET") -> None:
        where, _, query = target.partition("?")
        self.scope = {
            **{"type": "http", "method": method, "path": where, "query_string": query.encode()},
            **{"headers": [(b"host", b"localhost")], "server": ("localhost", 80)},
        }
        self.handler = handler
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await self.reads.wait()

    async def run(self, *messages: Message) -> "Client":
        for message in messages:
            self.messages.put_nowait(message)
        await self.handler(self.scope, self.messages.get, self.send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent[1:]).decode()


async def get(handler: ThreadedHandler, target: str) -> Client:
    return await Client(handler, target).run(BODY)


def test_a_request_is_answered() -> None:
    async def exchange() -> None:
        answer = await get(ThreadedHandler(threads=1), "/echo/?q=%C3%A9")
        assert (answer.status, answer.text) == (200, "what was written")
        assert (b"X-Query", "é".encode("latin-1")) in answer.sent[0]["headers"]
        assert (await get(ThreadedHandler(threads=1), "/nowhere/")).status == 404

    asyncio.run(exchange())


def test_a_request_runs_whole_in_one_thread_and_so_does_the_next() -> None:
    def saw(**_: Any) -> None:
        seen.threads.append(threading.get_ident())

    def saw_the_end(**_: Any) -> None:
        seen.finished.append(threading.get_ident())

    async def exchange() -> None:
        handler = ThreadedHandler(threads=4)
        for _ in range(3):
            await get(handler, "/echo/")

    request_started.connect(saw)
    request_finished.connect(saw_the_end)
    try:
        asyncio.run(exchange())
    finally:
        request_started.disconnect(saw)
        request_finished.disconnect(saw_the_end)
    assert (len(seen.threads), len(seen.finished)) == (6, 3)
    assert len({*seen.threads, *seen.finished}) == 1
    assert seen.threads[0] != threading.get_ident()


def test_its_thread_keeps_its_connection_to_postgresql(committed_db: None) -> None:
    async def exchange() -> None:
        handler = ThreadedHandler(threads=2)
        backends = {(await get(handler, "/backend/")).text for _ in range(3)}
        await get(handler, "/hang_up/")
        assert len(backends) == 1

    asyncio.run(exchange())


def test_no_more_are_worked_on_at_once_than_there_are_threads() -> None:
    async def exchange() -> None:
        handler = ThreadedHandler(threads=2)
        asked = [asyncio.create_task(get(handler, "/waits/")) for _ in range(3)]
        for _ in range(2):
            await asyncio.to_thread(seen.entered.acquire)
        late = asyncio.create_task(get(handler, "/echo/"))
        await asyncio.sleep(0)
        assert not seen.entered.acquire(blocking=False)
        seen.leave.release(3)
        assert {(await one).status for one in [*asked, late]} == {200}

    asyncio.run(exchange())


def test_a_slow_body_holds_no_thread() -> None:
    async def exchange() -> None:
        handler = ThreadedHandler(threads=1)
        slow = Client(handler, "/echo/", method="POST")
        writing = asyncio.create_task(slow.run({**BODY, "more_body": True}))
        assert (await get(handler, "/echo/")).status == 200
        slow.messages.put_nowait({**BODY, "body": b" in two parts"})
        assert (await writing).text == "what was written in two parts"

    asyncio.run(exchange())


@pytest.mark.parametrize("target", ["/echo/", "/stream/"])
def test_a_slow_reader_holds_no_thread(target: str) -> None:
    async def exchange() -> None:
        handler = ThreadedHandler(threads=1)
        slow = Client(handler, target)
        slow.reads.clear()
        reading = asyncio.create_task(slow.run(BODY))
        while not slow.sent:
            await asyncio.sleep(0.001)
        assert (await get(handler, "/echo/")).status == 200
        slow.reads.set()
        assert (await reading).text in {"what was written", "one two "}

    asyncio.run(exchange())


def test_a_view_that_fails_is_a_page_and_its_thread_serves_the_next() -> None:
    async def exchange() -> None:
        handler = ThreadedHandler(threads=1)
        failed = await get(handler, "/fails/")
        assert failed.status == 500
        assert "secret" not in failed.text
        assert (await get(handler, "/echo/")).status == 200

    asyncio.run(exchange())


def test_what_a_view_awaits_runs_in_the_servers_loop_whose_connections_it_shares() -> None:
    async def exchange() -> None:
        assert (await get(ThreadedHandler(threads=1), "/in_the_loop/")).text == str(id(asyncio.get_running_loop()))

    asyncio.run(exchange())


def test_who_leaves_before_the_request_is_complete_is_no_request() -> None:
    async def exchange() -> None:
        left = await Client(ThreadedHandler(threads=1), "/echo/", method="POST").run({**BODY, "more_body": True}, GONE)
        assert left.sent == []

    asyncio.run(exchange())
    assert seen.threads == []


def test_a_query_that_is_no_text_is_refused() -> None:
    async def exchange() -> None:
        client = Client(ThreadedHandler(threads=1), "/echo/")
        client.scope["query_string"] = b"\xff"
        assert (await client.run(BODY)).status == 400

    asyncio.run(exchange())
    assert seen.threads == []


def test_a_stream_is_sent_part_by_part_and_closed() -> None:
    async def exchange() -> None:
        answer = await get(ThreadedHandler(threads=1), "/stream/")
        assert answer.text == "one two "
        assert [message.get("body") for message in answer.sent[1:3]] == [b"one ", b"two "]

    asyncio.run(exchange())
    assert seen.streams_closed == 1


def test_a_stream_whose_reader_has_left_ends_there() -> None:
    async def exchange() -> None:
        client = Client(ThreadedHandler(threads=1), "/stream/?endless")
        reading = asyncio.create_task(client.run(BODY))
        while len(client.sent) < 3:
            await asyncio.sleep(0.001)
        client.messages.put_nowait(GONE)
        await reading
        assert client.sent[-1]["body"] == b"two "  # no last message: nobody takes a part for the whole

    asyncio.run(exchange())
    assert seen.streams_closed == 1
