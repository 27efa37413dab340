"""Redis for both faces: a plain synchronous client for the console and Celery, and `Scripts` for the hot path.

`Scripts` has one pipeline under way at a time; what is asked meanwhile goes out together in the next. So
an idle worker waits for nothing, and under load a system call is shared by all calls that wait. Every call
is bounded in time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from gateway_project.lib import lifespan

Argument = str | bytes | int
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


class Scripts:
    """Runs commands for the coroutines of one event loop."""

    def __init__(self, connection: redis.asyncio.Redis, *, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._waiting: list[Waiting] = []
        self._sending: asyncio.Task[None] | None = None

    async def run(self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[Argument]) -> Any:
        """The script's reply. Raises RedisUnavailable."""
        try:
            return await self._issue(("EVALSHA", script.sha, len(keys), *keys, *arguments))
        except NoScriptError:
            return await self.command("EVAL", script.source, len(keys), *keys, *arguments)

    async def command(self, *words: Argument) -> Any:
        """The reply to one command. Raises RedisUnavailable."""
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
            async with asyncio.timeout(self._timeout_seconds):
                replies = await self._exchange([words for words, _ in batch])
        except Exception as error:  # whatever it was: somebody waits for each of these
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
        pipeline = self._connection.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
        return await pipeline.execute(raise_on_error=False)


_scripts: WeakKeyDictionary[asyncio.AbstractEventLoop, Scripts] = WeakKeyDictionary()


def scripts() -> Scripts:
    """The `Scripts` of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _scripts:
        connection: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            # Once more at once, for a connection that the server has closed meanwhile: every script may come twice.
            settings.REDIS_URL,
            max_connections=64,
            retry=Retry(NoBackoff(), 1),
        )
        _scripts[loop] = Scripts(connection, timeout_seconds=settings.GUARDRAILS_TIMEOUT_SECONDS)
        lifespan.on_shutdown(connection.aclose)
    return _scripts[loop]
