"""Work that must never end begins anew whenever it does, and not once more than that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway_project.lib import tended
from gateway_project.lib.tended import Tended

SECRET = "what a caller wrote"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tended, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(tended, "MOST_SECONDS", 0.004)


class Work:
    """Lives until it is told how to end."""

    def __init__(self) -> None:
        self.lives = 0
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def live(self) -> None:
        self.lives += 1
        self.end = asyncio.get_running_loop().create_future()
        await self.end

    async def reach(self, lives: int) -> None:
        async with asyncio.timeout(10):
            while self.lives < lives:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def working() -> AsyncIterator[tuple[Work, Tended]]:
    work = Work()
    kept = Tended(work.live, name="work")
    await work.reach(1)
    yield work, kept
    await kept.stop()


def cancel(work: Work) -> None:
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "work")
    task.cancel()


DEATHS: dict[str, Callable[[Work], object]] = {
    "an error": lambda work: work.end.set_exception(ValueError(SECRET)),
    "cancelled": cancel,
    "ended": lambda work: work.end.set_result(None),
}


@pytest.mark.parametrize("death", DEATHS)
def test_whatever_it_dies_of_it_begins_anew(death: str) -> None:
    async def test() -> None:
        async with working() as (work, kept):
            for lives in (2, 3, 4):
                DEATHS[death](work)
                await asyncio.sleep(0)
                await work.reach(lives)
                assert kept.runs

    asyncio.run(test())


def test_it_is_told_without_the_words_of_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with working() as (work, _):
            DEATHS["an error"](work)
            await work.reach(2)

    asyncio.run(test())

    assert "task.died" in caplog.text
    assert "ValueError" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(("calm", "pauses"), [(60.0, [0.001, 0.002, 0.004, 0.004]), (0.0, [0.001] * 4)])
def test_deaths_that_follow_each_other_wait_longer_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, calm: float, pauses: list[float]
) -> None:
    """But not those of somebody who had lived for long."""
    monkeypatch.setattr(tended, "CALM_SECONDS", calm)

    async def test() -> None:
        async with working() as (work, _):
            for lives in range(2, 6):
                await asyncio.sleep(0.001)
                DEATHS["ended"](work)
                await work.reach(lives)

    asyncio.run(test())

    assert [told(record)["again_in_seconds"] for record in caplog.records] == pauses


def told(record: logging.LogRecord) -> dict[str, Any]:
    assert isinstance(record.msg, dict)
    return record.msg


async def at_once(work: Work, kept: Tended) -> None:
    assert kept.runs


async def in_the_pause(work: Work, kept: Tended) -> None:
    DEATHS["ended"](work)
    while kept.runs:
        await asyncio.sleep(0)


@pytest.mark.parametrize("moment", [at_once, in_the_pause])
def test_once_stopped_it_stays_so(moment: Callable[[Work, Tended], Awaitable[None]]) -> None:
    async def test() -> None:
        async with working() as (work, kept):
            await moment(work, kept)
            lives = work.lives
            await kept.stop()
            await kept.stop()
            await asyncio.sleep(0.01)
            assert (work.lives, kept.runs) == (lives, False)

    asyncio.run(test())


@pytest.mark.parametrize(("seconds", "whole"), [(0.01, True), (60, False)])
def test_what_is_cancelled_may_end_what_it_is_at_but_not_for_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, whole: bool
) -> None:
    monkeypatch.setattr(tended, "LAST_SECONDS", 0.2)
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(seconds)
            ended.append("whole")

    async def test() -> None:
        async with asyncio.timeout(5):
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
            await tended.cancelled({task})
            assert task.done()
            await tended.cancelled(set())

    asyncio.run(test())
    assert ended == ["whole"] * whole
