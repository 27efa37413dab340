"""What a provider grants a minute: never more is taken, by however many workers; what was not used is given back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway_project.lib import redis
from proxy.deployments import Deployment
from proxy.health import board, keys, overview, quotas
from proxy.health.quotas import Reservation, UsedUp
from tests.examples import some
from tests.proxy.test_circuits import fresh, on_a_loop


def pass_time(of: Deployment, *, seconds: int) -> None:
    """Moves what was taken into the past."""
    key = keys.quota(of.health_name)
    found: Any = redis.client().hgetall(key)
    fields = {name.decode(): int(value) for name, value in found.items()}
    moved = {
        name[0] + str(int(name[1:]) - seconds) if name[1:].isdigit() else name: value - seconds * name.endswith("pruned")
        for name, value in fields.items()
    }
    redis.client().delete(key)
    if moved:
        redis.client().hset(key, mapping=moved)


async def taken(of: Deployment, *, tokens: int = 1) -> Reservation:
    reservation = await quotas.reserve(of, tokens=tokens)
    assert reservation is not None
    return reservation


async def refused(of: Deployment, *, tokens: int = 1) -> float:
    with pytest.raises(UsedUp) as raised:
        await quotas.reserve(of, tokens=tokens)
    return raised.value.retry_after


def used(of: Deployment) -> tuple[int, int]:
    found = overview.overview([of.health_name])[of.health_name]
    return found.used_requests, found.used_tokens


def test_without_a_quota_nothing_is_asked_and_nothing_counted() -> None:
    async def work() -> None:
        target = fresh()
        assert await quotas.reserve(target, tokens=10) is None
        assert not redis.client().exists(keys.quota(target.health_name))

    on_a_loop(work)


def test_requests_end_at_the_quota_and_come_back_with_the_minute() -> None:
    async def work() -> None:
        target = fresh(rpm=3)
        for _ in range(3):
            await taken(target)
        assert 50 < await refused(target) <= 60
        pass_time(target, seconds=40)
        assert 10 < await refused(target) <= 20
        assert used(target) == (3, 0)
        pass_time(target, seconds=20)
        assert (await taken(target)).tokens == 0
        assert used(target) == (1, 0)

    on_a_loop(work)


def test_tokens_end_at_the_quota_and_a_refusal_takes_nothing() -> None:
    async def work() -> None:
        target = fresh(rpm=100, tpm=1000)
        await taken(target, tokens=700)
        await refused(target, tokens=301)
        assert used(target) == (1, 700)
        await taken(target, tokens=300)
        assert used(target) == (2, 1000)

    on_a_loop(work)


def test_a_request_larger_than_the_minute_takes_all_of_it_rather_than_never_going() -> None:
    async def work() -> None:
        target = fresh(tpm=1000)
        assert (await taken(target, tokens=5000)).tokens == 1000
        assert await refused(target) > 50

    on_a_loop(work)


def test_what_was_not_used_is_given_back_in_the_second_it_was_taken() -> None:
    async def work() -> None:
        target = fresh(tpm=1000)
        first, second = await taken(target, tokens=600), await taken(target, tokens=400)
        quotas.settle(first, tokens=150)
        quotas.settle(second, tokens=0)
        await board.current().exchange()
        assert used(target) == (0, 150)
        await taken(target, tokens=850)
        pass_time(target, seconds=60)
        assert used(target) == (0, 0)
        quotas.settle(first, tokens=900)  # too late to count
        await board.current().exchange()
        await taken(target, tokens=1000)

    on_a_loop(work)


def test_where_redis_is_away_nothing_is_counted_and_nobody_refused(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    async def work() -> None:
        assert await quotas.reserve(fresh(rpm=1), tokens=1) is None

    on_a_loop(work)


def test_however_many_ask_at_once_no_more_than_granted_is_taken() -> None:
    async def work() -> None:
        target = fresh(rpm=7)
        asked = await asyncio.gather(*(quotas.reserve(target, tokens=1) for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(one, Reservation) for one in asked) == 7
        assert sum(isinstance(one, UsedUp) for one in asked) == 13

    on_a_loop(work)


STEPS = st.lists(st.tuples(st.sampled_from([0, 0, 0, 7, 20, 61]), st.integers(1, 60)), max_size=15)


@hypothesis_settings(max_examples=some(25), deadline=None)
@given(STEPS)
def test_the_minute_slides_as_a_list_of_all_requests_would(steps: list[tuple[int, int]]) -> None:
    """Steps are far from the edge of the minute: the real clock goes on meanwhile."""

    async def work() -> None:
        target, taken_at, clock = fresh(rpm=4, tpm=100), deque[tuple[int, int]](), 0
        for wait, tokens in steps:
            clock += wait
            pass_time(target, seconds=wait)
            while taken_at and taken_at[0][0] <= clock - 60:
                taken_at.popleft()
            fits = len(taken_at) < 4 and sum(amount for _, amount in taken_at) + tokens <= 100
            if fits:
                taken_at.append((clock, tokens))
                await taken(target, tokens=tokens)
            else:
                await refused(target, tokens=tokens)
            assert used(target) == (len(taken_at), sum(amount for _, amount in taken_at))

    on_a_loop(work)
