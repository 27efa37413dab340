"""One timer for many waits: each is bounded as `asyncio.timeout` would bound it, and no other."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest

from gateway_project.lib.patience import Patience, within

SHORT, LONG = 0.01, 60.0


async def never() -> None:
    await asyncio.get_running_loop().create_future()


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_a_loop
async def test_a_wait_that_takes_longer_is_a_timeout() -> None:
    with pytest.raises(TimeoutError), within(SHORT):
        await never()
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]


@in_a_loop
async def test_a_wait_that_ends_in_time_is_left_alone_and_so_is_what_follows() -> None:
    with within(SHORT):
        await asyncio.sleep(0)
    await asyncio.sleep(SHORT * 3)


@in_a_loop
async def test_each_of_many_waits_has_its_own_bound() -> None:
    with closing(Patience()) as patience:
        for _ in range(5):
            with patience.within(LONG):
                await asyncio.sleep(SHORT)
        with pytest.raises(TimeoutError), patience.within(SHORT):
            await never()
        with patience.within(LONG):
            await asyncio.sleep(SHORT * 3)
        with pytest.raises(TimeoutError), patience.until(asyncio.get_running_loop().time() + SHORT):
            await never()


@in_a_loop
async def test_a_timer_that_rings_during_a_later_wait_ends_that_one_at_its_own_time() -> None:
    loop = asyncio.get_running_loop()
    with closing(Patience()) as patience:
        with patience.within(SHORT):
            await asyncio.sleep(0)
        began = loop.time()
        with pytest.raises(TimeoutError), patience.within(SHORT * 4):
            await never()
        # Clocks of loops count milliseconds.
        assert loop.time() - began > SHORT * 3


@in_a_loop
async def test_time_between_waits_counts_for_none_of_them() -> None:
    with closing(Patience()) as patience:
        with patience.within(SHORT):
            await asyncio.sleep(0)
        await asyncio.sleep(SHORT * 3)
        with patience.within(LONG):
            await asyncio.sleep(0)


@in_a_loop
async def test_a_bound_that_is_passed_lets_through_what_is_here_and_nothing_else() -> None:
    async def here() -> str:
        return "here"

    passed = asyncio.get_running_loop().time() - 1
    with closing(Patience()) as patience:
        with patience.until(passed):
            assert await here() == "here"
        with pytest.raises(TimeoutError), patience.until(passed):
            await asyncio.sleep(0)


@in_a_loop
async def test_nested_bounds_tell_which_of_them_was_passed() -> None:
    with within(LONG):
        with pytest.raises(TimeoutError), within(SHORT):
            await never()
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), within(SHORT), within(LONG):
        await never()


@in_a_loop
async def test_it_nests_with_timeouts_of_asyncio() -> None:
    async def outer() -> None:
        async with asyncio.timeout(SHORT):
            with within(LONG):
                await never()

    with pytest.raises(TimeoutError):
        await outer()
    async with asyncio.timeout(LONG):
        with pytest.raises(TimeoutError), within(SHORT):
            await never()


@in_a_loop
async def test_a_cancellation_from_outside_stays_one() -> None:
    async def waits() -> None:
        with within(LONG):
            await never()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@in_a_loop
async def test_a_cancellation_of_the_same_moment_goes_before_the_timeout() -> None:
    async def waits(patience: Patience) -> None:
        with patience.within(LONG):
            await never()

    patience = Patience()
    task = asyncio.create_task(waits(patience))
    await asyncio.sleep(0)
    patience.end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    patience.close()


@in_a_loop
async def test_the_wait_of_the_moment_can_be_ended_at_once() -> None:
    async def waits(patience: Patience) -> str:
        try:
            with patience.within(LONG):
                await never()
        except TimeoutError:
            return "ended"
        return ""

    with closing(Patience()) as patience:
        task = asyncio.create_task(waits(patience))
        await asyncio.sleep(0)
        patience.end()
        patience.end()
        assert await task == "ended"
        # Nothing is waited for: nothing is ended.
        patience.end()
        await asyncio.sleep(0)


@in_a_loop
async def test_what_fails_in_the_block_fails_as_it_is() -> None:
    with pytest.raises(ValueError, match="its own"), within(LONG):
        raise ValueError("its own")


@in_a_loop
async def test_an_answer_of_the_same_moment_as_the_bound_leaves_no_cancellation_behind() -> None:
    """The future is done and the timer rings before the task runs again: as with `asyncio.timeout`, time is up."""
    loop = asyncio.get_running_loop()
    with closing(Patience()) as patience:
        answer = loop.create_future()
        loop.call_soon(answer.set_result, None)
        loop.call_soon(patience.end)
        with pytest.raises(TimeoutError), patience.within(LONG):
            await answer
    await asyncio.sleep(0)
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]


@in_a_loop
async def test_a_closed_one_is_forgotten_by_the_loop() -> None:
    class Kept(Patience):
        __slots__ = ("__weakref__",)

    patience = Kept()
    with patience.within(LONG):
        await asyncio.sleep(0)
    patience.close()
    known = weakref.ref(patience)
    del patience
    gc.collect()
    assert known() is None


def test_outside_a_task_nothing_can_be_bounded() -> None:
    loop = asyncio.new_event_loop()
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            with within(LONG):
                pass
        except RuntimeError as error:
            failed.append(error)
        loop.stop()

    loop.call_soon(enter)
    loop.run_forever()
    loop.close()
    assert "only a task" in str(failed[0])
