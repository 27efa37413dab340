"""Commands of many coroutines over one connection: shared, bounded in time, and each with its own answer."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from django.conf import settings as django_settings
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import NoScriptError

from gateway_project.lib import lifespan, redis
from gateway_project.lib.redis import RedisUnavailable, Script, Scripts

TIMEOUT = 5.0
LATER = "redis.call('INCR', KEYS[1]); return {KEYS[1], ARGV[1]}"


class Relay:
    """Passes bytes on to the real server and keeps what clients sent, one entry for each time they wrote.

    While `passing` is clear answers wait; with `losing` the next one is dropped, and the connection with it.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.losing = False
        self.passing = asyncio.Event()
        self.passing.set()
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await connected()
        answers = asyncio.create_task(self._answers(server_reader, writer))
        while sent := await reader.read(1 << 20):
            self.sent.append(sent)
            server_writer.write(sent)
        answers.cancel()
        for end in (writer, server_writer):
            end.transport.abort()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(1 << 20):
            await self.passing.wait()
            if self.losing:
                self.losing = False
                break
            writer.write(received)
        writer.transport.abort()


async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = str(django_settings.REDIS_URL)
    if url.startswith("unix://"):
        return await asyncio.open_unix_connection(url.removeprefix("unix://").partition("?")[0])
    options = Redis.from_url(url).connection_pool.connection_kwargs
    return await asyncio.open_connection(options["host"], options["port"])


@asynccontextmanager
async def relayed(*, timeout_seconds: float = TIMEOUT) -> AsyncIterator[tuple[Scripts, Relay]]:
    relay = Relay()
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    scripts = Scripts(connections(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"), timeout_seconds=timeout_seconds)
    await scripts.command("PING")
    relay.sent.clear()
    try:
        yield scripts, relay
    finally:
        relay.passing.set()
        await scripts.close()
        server.close()


def connections(url: str) -> ConnectionPool:
    return ConnectionPool.from_url(url, protocol=2)


@asynccontextmanager
async def direct(*, timeout_seconds: float = TIMEOUT) -> AsyncIterator[Scripts]:
    scripts = Scripts(connections(django_settings.REDIS_URL), timeout_seconds=timeout_seconds)
    try:
        yield scripts
    finally:
        await scripts.close()


@pytest.fixture
def key() -> str:
    return f"test:{secrets.token_hex(8)}"


def with_scripts(work: Callable[[Scripts], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with direct(**options) as scripts:
            return await work(scripts)

    return asyncio.run(run())


def a_script(folder: Path, text: str) -> Script:
    path = folder / "script.lua"
    path.write_text(text)
    return Script(path)


def commands(sent: bytes) -> int:
    """How many commands the bytes hold: each begins with the number of its words."""
    return sum(line.startswith(b"*") for line in sent.split(b"\r\n"))


def test_what_coroutines_ask_together_goes_out_in_one_piece_and_in_order(key: str) -> None:
    async def ask() -> tuple[list[Any], list[bytes]]:
        async with relayed() as (scripts, relay):
            answers = await asyncio.gather(*(scripts.command("APPEND", key, number) for number in range(9)))
            return [*answers, await scripts.command("GETDEL", key)], relay.sent

    answers, sent = asyncio.run(ask())
    assert answers == [*range(1, 10), b"012345678"]
    assert [commands(piece) for piece in sent] == [9, 1]


def test_one_pipeline_is_under_way_at_a_time_and_the_rest_waits_for_it(key: str) -> None:
    async def ask() -> list[int]:
        async with relayed() as (scripts, relay):
            relay.passing.clear()
            first = asyncio.create_task(scripts.command("INCR", key))
            while not relay.sent:
                await asyncio.sleep(0.001)
            later = [asyncio.create_task(scripts.command("INCR", key)) for _ in range(20)]
            await asyncio.sleep(0.05)
            assert [commands(piece) for piece in relay.sent] == [1]
            relay.passing.set()
            assert [await first, *await asyncio.gather(*later)] == list(range(1, 22))
            await scripts.command("DEL", key)
            return [commands(piece) for piece in relay.sent]

    assert asyncio.run(ask()) == [1, 20, 1]


def test_every_coroutine_gets_its_own_answer(key: str) -> None:
    async def ask(scripts: Scripts) -> None:
        async def one(number: int) -> Any:
            await asyncio.sleep(number % 7 / 1000)
            return await scripts.command("ECHO", f"{key}:{number}")

        answers = await asyncio.gather(*map(one, range(300)))
        assert answers == [f"{key}:{number}".encode() for number in range(300)]

    with_scripts(ask)


def test_a_script_the_server_has_never_seen_runs_and_is_known_by_name_afterwards(key: str, tmp_path: Path) -> None:
    script = a_script(tmp_path, f"-- {key}\n{LATER}")

    async def ask() -> list[bytes]:
        async with relayed() as (scripts, relay):
            for argument in ("first", "second"):
                assert await scripts.run(script, [key], [argument]) == [key.encode(), argument.encode()]
            assert await scripts.command("GETDEL", key) == b"2"
            return relay.sent

    by_name, with_source, known, _ = asyncio.run(ask())
    assert script.sha.encode() in by_name
    assert script.source.encode() in with_source
    assert script.sha.encode() in known
    assert script.source.encode() not in known


def test_a_server_that_forgot_its_scripts_is_told_again(key: str, tmp_path: Path) -> None:
    script = a_script(tmp_path, f"-- {key}\n{LATER}")

    async def ask(scripts: Scripts) -> None:
        await scripts.run(script, [key], ["x"])
        await scripts.command("SCRIPT", "FLUSH")
        answers = await asyncio.gather(*(scripts.run(script, [key], [number]) for number in range(5)))
        assert [answer[1] for answer in answers] == [b"0", b"1", b"2", b"3", b"4"]
        # Each ran once, although the first attempt of each was refused.
        assert await scripts.command("GETDEL", key) == b"6"

    with_scripts(ask)


def test_a_script_calling_for_an_unknown_one_is_a_refusal_not_a_loop(key: str) -> None:
    async def ask(scripts: Scripts) -> None:
        with pytest.raises(RedisUnavailable) as caught:
            await scripts.command("EVALSHA", "0" * 40, 0)
        assert isinstance(caught.value.__cause__, NoScriptError)

    with_scripts(ask)


def test_a_refused_command_does_not_touch_its_neighbours(key: str) -> None:
    async def ask(scripts: Scripts) -> list[Any]:
        await scripts.command("SET", key, "text")
        asked = [("APPEND", key, "!"), ("LPUSH", key, "x"), ("NO-SUCH-COMMAND",), ("GETDEL", key)]
        return await asyncio.gather(*(scripts.command(*words) for words in asked), return_exceptions=True)

    appended, wrong_type, unknown, text = with_scripts(ask)
    assert (appended, text) == (5, b"text!")
    assert isinstance(wrong_type, RedisUnavailable)
    assert "WRONGTYPE" in str(wrong_type)
    assert isinstance(unknown, RedisUnavailable)


def test_a_failing_script_fails_only_for_its_caller(key: str, tmp_path: Path) -> None:
    broken = a_script(tmp_path, "return redis.call('INCR', KEYS[1], 'too', 'many')")

    async def ask(scripts: Scripts) -> list[Any]:
        return [*await asyncio.gather(scripts.run(broken, [key], []), scripts.command("ECHO", "fine"), return_exceptions=True)]

    failed, fine = with_scripts(ask)
    assert isinstance(failed, RedisUnavailable)
    assert fine == b"fine"


def test_silence_ends_in_time_also_for_those_who_asked_meanwhile() -> None:
    async def ask() -> None:
        async with relayed(timeout_seconds=0.2) as (scripts, relay):
            relay.passing.clear()
            first = asyncio.create_task(scripts.command("PING"))
            await asyncio.sleep(0.1)
            later = asyncio.create_task(scripts.command("PING"))
            began = time.monotonic()
            for asked in (first, later):
                with pytest.raises(RedisUnavailable, match="TimeoutError"):
                    await asked
            assert time.monotonic() - began < 0.19

    asyncio.run(ask())


def test_an_answer_that_came_too_late_is_not_taken_for_another(key: str) -> None:
    async def ask() -> None:
        async with relayed(timeout_seconds=0.1) as (scripts, relay):
            relay.passing.clear()
            with pytest.raises(RedisUnavailable):
                await scripts.command("ECHO", "late")
            relay.passing.set()
            answers = await asyncio.gather(*(scripts.command("ECHO", number) for number in range(20)))
            assert answers == [str(number).encode() for number in range(20)]

    asyncio.run(ask())


def test_a_command_whose_answer_was_lost_is_not_sent_again(key: str) -> None:
    """It may have been done: the caller decides, by what it knows of the command."""

    async def ask() -> None:
        async with relayed() as (scripts, relay):
            relay.losing = True
            with pytest.raises(RedisUnavailable, match="ConnectionError"):
                await scripts.command("INCR", key)
            assert await scripts.command("GETDEL", key) == b"1"

    asyncio.run(ask())


def test_a_caller_that_gives_up_does_not_disturb_the_others(key: str) -> None:
    async def ask() -> None:
        async with relayed() as (scripts, relay):
            relay.passing.clear()
            asked = [asyncio.create_task(scripts.command("ECHO", number)) for number in range(3)]
            await asyncio.sleep(0.02)
            asked[1].cancel()
            relay.passing.set()
            assert [await asked[0], await asked[2]] == [b"0", b"2"]
            with pytest.raises(asyncio.CancelledError):
                await asked[1]

    asyncio.run(ask())


def test_a_connection_that_the_server_closed_is_made_again(key: str) -> None:
    async def ask(scripts: Scripts) -> None:
        for _ in range(3):
            number = await scripts.command("CLIENT", "ID")
            redis.client().client_kill_filter(_id=number)
            try:
                again = await scripts.command("CLIENT", "ID")
            except RedisUnavailable:
                again = await scripts.command("CLIENT", "ID")
            assert again != number

    with_scripts(ask)


def test_nobody_listening_is_said_and_the_next_call_tries_again() -> None:
    async def ask() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        scripts = Scripts(connections(f"redis://127.0.0.1:{port}/0"), timeout_seconds=0.3)
        began = time.monotonic()
        with pytest.raises(RedisUnavailable):
            await scripts.command("PING")
        assert time.monotonic() - began < 1
        relay = Relay()
        server = await asyncio.start_server(relay.accept, "127.0.0.1", port)
        assert await scripts.command("PING") in (True, b"PONG")
        await scripts.close()
        server.close()

    asyncio.run(ask())


def test_words_that_cannot_be_sent_fail_with_their_own_error_and_the_next_works() -> None:
    async def ask(scripts: Scripts) -> None:
        with pytest.raises(RedisUnavailable):
            await scripts.command("SET", "x", None)  # type: ignore[arg-type]
        assert await scripts.command("ECHO", "fine") == b"fine"

    with_scripts(ask)


def test_a_command_may_carry_the_run_id_of_the_server_it_goes_to(key: str) -> None:
    async def ask(scripts: Scripts) -> None:
        await scripts.command("SET", key, redis.RUN_ID)
        told = redis.client().info("server")["run_id"]
        assert (await scripts.command("GETDEL", key)).decode() == scripts.run_id == told

    with_scripts(ask)


def test_each_event_loop_has_its_own_and_keeps_it() -> None:
    async def ask() -> Scripts:
        try:
            assert redis.scripts() is redis.scripts()
            assert await redis.scripts().command("ECHO", "here") == b"here"
            return redis.scripts()
        finally:
            await lifespan.stop()

    assert asyncio.run(ask()) is not asyncio.run(ask())


def test_the_consoles_client_is_one_per_process_and_bounded(key: str) -> None:
    client = redis.client()
    assert client is redis.client()
    assert client.connection_pool.connection_kwargs["socket_timeout"] == django_settings.GUARDRAILS_TIMEOUT_SECONDS
    client.set(key, "kept", ex=5)
    assert client.getdel(key) == b"kept"
    with pytest.raises(redis_client.ResponseError):
        client.execute_command("NO-SUCH-COMMAND")  # type: ignore[no-untyped-call]


def test_a_count_ends_with_its_time_and_begins_anew() -> None:
    name = f"test:{secrets.token_hex(8)}"
    assert [redis.counted(name, seconds=60) for _ in range(3)] == [1, 2, 3]
    assert 0 < int(redis.client().ttl(name)) <= 60
    redis.client().delete(name)
    assert redis.counted(name, seconds=60) == 1
    redis.client().delete(name)
