"""Redis for both faces: a plain synchronous client for the console and Celery, and `Scripts` for the hot path.

`Scripts` has one connection and one pipeline under way at a time; what is asked meanwhile goes out together in the
next. So an idle worker waits for nothing, and under load a system call is shared by all calls that wait. Every
call is bounded in time.

An argument that is `RUN_ID` becomes the run id of the very server that the command is sent to: a script can tell that
its server was started anew since something was written, however the connection came about.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hiredis
import redis
import redis.asyncio
from django.conf import settings
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway_project.lib import lifespan
from gateway_project.lib.loops import PerLoop
from gateway_project.lib.patience import Patience

# A connection that rested so long may have been closed by the server or what lies between.
IDLE_SECONDS = 1.0

Argument = str | bytes | int
RUN_ID_LINE = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
RUN_ID = "\x00run id of the server\x00"
Waiting = tuple[Sequence[Argument], asyncio.Future[Any]]


class RedisUnavailable(Exception):
    """Redis did not answer in time, or refused the command."""


class Script:
    """A Lua script of one or more files, in their order; sent once per server, named by its digest afterwards."""

    def __init__(self, *paths: Path) -> None:
        self.source = "\n".join(path.read_text() for path in paths)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@cache
def client() -> redis.Redis:
    """The synchronous client of this process; connections are made on demand and pooled."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=settings.GUARDRAILS_TIMEOUT_SECONDS, socket_connect_timeout=2)


def counted(name: str, *, seconds: int) -> int:
    """How often this was called with the name, this time included, within `seconds` of the first. Raises RedisError.

    In one transaction, so that a counter that ends meanwhile begins anew, and none is ever left without an end.
    """
    with client().pipeline(transaction=True) as pipeline:
        pipeline.set(name, 0, ex=seconds, nx=True)
        pipeline.incr(name)
        return int(pipeline.execute()[-1])


class Scripts:
    """Runs commands for the coroutines of one event loop."""

    def __init__(self, connections: redis.asyncio.ConnectionPool, *, timeout_seconds: float) -> None:
        self._connection = connections.make_connection()  # type: ignore[no-untyped-call]
        self._timeout_seconds = timeout_seconds
        self._patience = Patience()
        self._waiting: list[Waiting] = []
        self._sending: asyncio.Task[None] | None = None
        self._used_at = 0.0
        # Of the server last connected to; '' until then.
        self.run_id = ""

    async def run(self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[Argument]) -> Any:
        """The script's reply. Raises RedisUnavailable."""
        try:
            return await self._issue(("EVALSHA", script.sha, len(keys), *keys, *arguments))
        except NoScriptError:
            return await self.command("EVAL", script.source, len(keys), *keys, *arguments)

    async def command(self, *words: Argument) -> Any:
        """The reply to one command, word by word ("SCRIPT", "FLUSH"). Raises RedisUnavailable."""
        try:
            return await self._issue(words)
        except NoScriptError as error:
            raise RedisUnavailable(str(error)) from error

    def _issue(self, words: Sequence[Argument]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        reply = loop.create_future()
        self._waiting.append((words, reply))
        if self._sending is None:
            self._sending = loop.create_task(self._send_all())
        return reply

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._send(batch)
        finally:
            self._sending = None

    async def _send(self, batch: list[Waiting]) -> None:
        try:
            with self._patience.within(self._timeout_seconds):
                replies = await self._exchange([words for words, _ in batch])
        except Exception as error:  # whatever it was: somebody waits for each of these
            await self.close()
            # Whoever asked meanwhile has waited as long, and would wait once more.
            batch, self._waiting = batch + self._waiting, []
            replies = [RedisUnavailable(f"Redis did not answer: {type(error).__name__}")] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, RedisError) and not isinstance(reply, NoScriptError):
                reply = RedisUnavailable(f"Redis refused: {reply}")
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def _exchange(self, commands: list[Sequence[Argument]]) -> list[Any]:
        """Nothing is sent twice: whether a command whose answer was lost was carried out, nobody knows."""
        if self._connection.is_connected and time.monotonic() - self._used_at > IDLE_SECONDS and await self._closed_by_server():
            await self.close()
        if not self._connection.is_connected:
            await self._connect()
        replies = await self._once(commands)
        self._used_at = time.monotonic()
        return replies

    async def _closed_by_server(self) -> bool:
        try:
            return bool(await self._connection.can_read())
        except (redis.ConnectionError, OSError):
            return True

    async def _once(self, commands: list[Sequence[Argument]]) -> list[Any]:
        connection = self._connection
        known = [tuple([self.run_id if word is RUN_ID else word for word in words]) for words in commands]
        # redis-py's own packing, in Python, takes ten times as long: more than all else that a call costs here.
        packed = [hiredis.pack_command(words) for words in known]  # type: ignore[arg-type] # declared for one word
        await connection.send_packed_command(packed, check_health=False)
        return [await self._reply() for _ in commands]

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error

    async def _connect(self) -> None:
        await self._connection.connect()
        found = RUN_ID_LINE.search(bytes((await self._once([("INFO", "server")]))[0]))
        if found is None:
            raise redis.ConnectionError("the server does not tell its run id")
        self.run_id = found[1].decode()

    async def close(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            await self._connection.disconnect()


def _open() -> Scripts:
    scripts = Scripts(
        # No timeouts of the library's own: each write would be a task, each reply a timer. `Scripts` bounds every exchange.
        redis.asyncio.ConnectionPool.from_url(settings.REDIS_URL, protocol=2, socket_timeout=None),
        timeout_seconds=settings.GUARDRAILS_TIMEOUT_SECONDS,
    )
    lifespan.on_shutdown(scripts.close)
    return scripts


# The `Scripts` of the running event loop.
scripts = PerLoop(_open)
