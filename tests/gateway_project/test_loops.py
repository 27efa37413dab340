"""What each event loop has one of."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway_project.lib.loops import PerLoop


class Thing:
    """Something that must not be shared."""


def test_a_loop_has_one_and_another_loop_another() -> None:
    things = PerLoop(Thing)

    async def twice() -> tuple[Thing, Thing]:
        return things(), things()

    (first, again), (other, _) = asyncio.run(twice()), asyncio.run(twice())
    assert first is again
    assert other is not first


def test_loops_that_take_turns_keep_their_own() -> None:
    """As they do where one waits for a thread in which another runs."""
    things = PerLoop(Thing)

    async def outer() -> None:
        own = things()
        inner = await asyncio.to_thread(asyncio.run, asked())
        assert things() is own
        assert inner is not own

    async def asked() -> Thing:
        assert things.get() is None
        return things()

    asyncio.run(outer())


def test_loops_of_several_threads_keep_their_own() -> None:
    things, interval = PerLoop(Thing), sys.getswitchinterval()

    async def strays() -> int:
        own = things()
        return sum(things() is not own for _ in range(20_000))

    sys.setswitchinterval(1e-6)  # threads take turns in the middle of anything
    try:
        with ThreadPoolExecutor(3) as threads:
            assert list(threads.map(asyncio.run, [strays() for _ in range(3)])) == [0, 0, 0]
    finally:
        sys.setswitchinterval(interval)


def test_nothing_is_made_before_it_is_asked_for_and_what_is_put_counts() -> None:
    made: list[Thing] = []

    def make() -> Thing:
        made.append(Thing())
        return made[-1]

    things = PerLoop(make)

    async def work() -> None:
        assert things.get() is None
        assert made == []
        given = things.put(Thing())
        assert things.get() is things() is given
        assert made == []
        assert things.pop() is given
        assert things.pop() is None
        assert things.get() is None
        assert things() is made[0]

    asyncio.run(work())


def test_what_may_be_none_is_asked_for_by_get() -> None:
    flags = PerLoop(lambda: False)

    async def work() -> None:
        assert not flags.get()
        flags.put(True)
        assert flags.get()

    asyncio.run(work())
    asyncio.run(pristine(flags))


async def pristine(flags: PerLoop[bool]) -> None:
    assert flags.get() is None


def test_a_loop_that_has_gone_takes_its_own_along() -> None:
    things = PerLoop(Thing)

    async def work() -> weakref.ref[Thing]:
        return weakref.ref(things())

    gone = asyncio.run(work())
    asyncio.run(work())  # the last loop is remembered
    gc.collect()
    assert gone() is None


def test_outside_of_any_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        PerLoop(Thing)()
