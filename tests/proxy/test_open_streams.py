"""Streams whose key is revoked are cut within a second, however many keys stream, whatever becomes of other look-ups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

from asgiref.sync import sync_to_async
from django.db import connections

from gateway_project.lib import redis
from gateway_project.lib.patience import within
from orgs import epoch
from orgs.models import ApiKey
from orgs.services.keys import disable_key
from proxy import callers, open_streams
from proxy.call import Call
from proxy.open_streams import OpenStream
from tests.coroutines import as_worker, kill
from tests.house import House

KEYS = 120


async def streaming(key: str) -> Call:
    return Call("chat_completions", await callers.load(key))


async def until(look: Callable[[], bool], *, seconds: float = 5) -> float:
    """→ how long it takes on a machine that does nothing else: the longest wait for a look, and what this process computed."""
    began = time.process_time()
    async with asyncio.timeout(seconds):
        while not look():
            await asyncio.sleep(0.01)
    return open_streams.LOOK_SECONDS + time.process_time() - began


@sync_to_async
def disabled(house: House, key: ApiKey) -> None:
    try:
        disable_key(key, by=house.world.actor("mia"))
    finally:
        connections.close_all()  # that of another thread


def test_one_of_many_keys_is_cut_within_a_second_and_the_others_go_on(house: House) -> None:
    keys = house.new_keys(KEYS)

    async def work() -> None:
        with ExitStack() as stack:
            streams: list[OpenStream] = [stack.enter_context(open_streams.watched(await streaming(text))) for _, text in keys]
            before = streams[0].epoch
            await disabled(house, keys[-1][0])
            assert await until(lambda: streams[-1].call.cut is not None) < 1
            await until(lambda: all(stream.epoch != before for stream in streams[:-1]))
            assert [stream.call.cut for stream in streams[:-1]] == [None] * (KEYS - 1)
            error = streams[-1].call.cut
            assert error is not None
            assert error.code == "key_disabled"

    as_worker(work())


def test_two_streams_of_one_key_are_both_cut_while_they_wait(house: House) -> None:
    key, text = house.new_key()

    async def wait(stream: OpenStream) -> bool:
        try:
            with within(30) as stream.waiting:
                await asyncio.sleep(30)
        except TimeoutError:
            return stream.call.cut is not None
        return False

    async def work() -> None:
        with ExitStack() as stack:
            streams = [stack.enter_context(open_streams.watched(await streaming(text))) for _ in range(2)]
            waiting = asyncio.gather(*(wait(stream) for stream in streams))
            await asyncio.sleep(0)
            await disabled(house, key)
            assert await asyncio.wait_for(waiting, 5) == [True, True]

    as_worker(work())


def test_whoever_looks_after_them_is_replaced_when_it_dies(house: House) -> None:
    key, text = house.new_key()

    async def work() -> None:
        with open_streams.watched(await streaming(text)) as stream:
            assert kill("open streams")
            await disabled(house, key)
            await until(lambda: stream.call.cut is not None)

    as_worker(work())


def test_an_organisation_that_cannot_be_looked_at_stops_no_other(house: House) -> None:
    key, text = house.new_key()
    broken = epoch.keys(0)[0]

    async def work() -> None:
        with ExitStack() as stack:
            stream = OpenStream(await streaming(text))
            own = stack.enter_context(open_streams.watched(stream.call))
            # Beside it, one of an organisation whose epoch is of another type: each look at it fails.
            watching = open_streams._open()
            watching._by_organization[0][stream.call.id] = stream
            await disabled(house, key)
            await until(lambda: own.call.cut is not None)
            del watching._by_organization[0]

    redis.client().delete(broken)
    redis.client().rpush(broken, "no epoch")
    try:
        as_worker(work())
    finally:
        redis.client().delete(broken)
