"""Servers on loopback, in the event loop of the test itself, that speak to the product's client byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

import pytest
import uvloop

from proxy.errors import AttemptFailed
from proxy.providers import http, transport
from proxy.providers.base import Target, Timeouts

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"
# The product serves on the second; commands and tests run on the first.
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_on(loop: str, work: Coroutine[Any, Any, Any]) -> Any:
    """The pool is closed afterwards; nothing may have been reported to the loop, or be left open."""
    reports: list[Any] = []

    async def then_close() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        try:
            return await work
        finally:
            pool = transport.shared()
            await transport.shutdown()
            assert len(pool) == 0

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        result = runner.run(then_close())
    gc.collect()  # a socket or a failed task that nobody looked at would speak up here
    assert reports == []
    return result


class Client(NamedTuple):
    """One connection, as the server sees it. `number` counts from 0."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body of the next one. Raises IncompleteReadError where there is none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"content-length: ")
        return head, await self.reader.readexactly(int(length.split()[0]) if length else 0)

    async def say(self, *parts: bytes) -> None:
        self.writer.writelines(parts)
        await self.writer.drain()

    def hang_up(self) -> None:
        self.writer.transport.abort()


Play = Callable[[Client], Awaitable[object]]


class Server:
    """Counts the `connections` that came and those that have `left`."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.port = self.connections = self.left = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(self.connections, reader, writer)
        self.connections += 1
        try:
            await self._play(client)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self.left += 1
            writer.transport.abort()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


async def hello(client: Client) -> None:
    """Answers whatever is asked."""
    while True:
        await client.request()
        await client.say(HELLO)


@contextlib.asynccontextmanager
async def serving(
    play: Play, *, tls: ssl.SSLContext | None = None, host: str | tuple[str, ...] = "127.0.0.1"
) -> AsyncIterator[Server]:
    server = Server(play)
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        await transport.shutdown()
        listening.close()
        await until(lambda: server.left == server.connections)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.001)


def target(**changes: Any) -> Target:
    fields: dict[str, Any] = {"timeouts": Timeouts(connect=10, first_byte=20, idle=20, total=60), "is_tenants": False} | changes
    return Target(provider_id=1, deployment_id=1, provider_name="scripted", kind="x", base_url="", model="m", **fields)


async def fetch(url: str, *, method: str = "POST", body: bytes = b"{}", **changes: Any) -> bytes:
    opened = await http.open(target(**changes), url=url, headers={}, body=body, stream=False, method=method)
    try:
        return await opened.body()
    finally:
        await opened.close()


async def failure(url: str, **options: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as raised:
        await fetch(url, **options)
    return raised.value
