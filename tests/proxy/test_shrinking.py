"""A hold is shrunk for an answer, or claimed for a call nobody was answered on: never both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway_project.lib import redis
from guardrails import counters, leases, shrinking
from proxy import settling
from proxy.call import Call
from tests.coroutines import as_worker
from tests.house import House
from tests.proxy.calls import admitted

COST = 9_007_199_254_740_993  # beyond what a double tells apart


async def shrunk(call: Call, amount: int = COST) -> bool:
    assert call.held is not None
    limits = call.held.limits
    return await shrinking.shrink(limits.organization_id, call.id, subjects=limits.subjects, charged=amount)


def record(house: House, call: Call) -> str:
    found: Any = redis.client().hget(counters.holds(house.organization.pk, house.token), str(call.id))
    return (found or b"").decode()


def worked(house: House, steps: Any) -> Any:
    async def work() -> Any:
        call = await admitted(house)
        try:
            return await steps(call)
        finally:
            await settling.give_up(call)

    return as_worker(work())


@pytest.mark.parametrize("amount", [0, 1, COST])
def test_a_shrunk_hold_is_the_exact_cost_on_every_subject(house: House, amount: int) -> None:
    async def steps(call: Call) -> None:
        assert call.held is not None
        assert await shrunk(call, amount)
        for subject in call.held.limits.subjects:
            assert house.counter(subject) == {"spent": 0, "held": amount}, subject
        assert record(house, call).startswith(f"{amount}|0|s|")

    worked(house, steps)
    assert house.held() == {}


def test_shrinking_again_changes_nothing(house: House) -> None:
    async def steps(call: Call) -> None:
        assert [await shrunk(call), await shrunk(call)] == [True, True]
        assert house.counter("org") == {"spent": 0, "held": COST}

    worked(house, steps)


def test_a_new_generation_is_told_of_the_shrunk_hold(house: House) -> None:
    async def steps(call: Call) -> None:
        assert await shrunk(call)
        assert leases.current().holds[call.id].record == record(house, call)

    worked(house, steps)


def test_a_shrunk_hold_cannot_be_claimed(house: House) -> None:
    async def steps(call: Call) -> None:
        assert await shrunk(call)
        assert not await shrinking.claim(house.organization.pk, call.id)

    worked(house, steps)


def test_a_claimed_hold_cannot_be_shrunk_and_keeps_its_amount(house: House) -> None:
    async def steps(call: Call) -> None:
        assert call.held is not None
        assert await shrinking.claim(house.organization.pk, call.id)
        assert await shrinking.claim(house.organization.pk, call.id), "a resolver that died is followed by another"
        assert not await shrunk(call)
        assert house.counter("org") == {"spent": 0, "held": call.held.amount_nano_usd}

    worked(house, steps)


def test_what_holds_nothing_is_neither_shrunk_nor_claimed(house: House) -> None:
    async def steps(call: Call) -> None:
        await settling.give_up(call)
        assert not await shrunk(call)
        assert not await shrinking.claim(house.organization.pk, call.id)
        assert house.held() == {}

    worked(house, steps)


def test_of_both_at_once_one_wins(house: House) -> None:
    async def steps(call: Call) -> None:
        asked = await asyncio.gather(shrunk(call), shrinking.claim(house.organization.pk, call.id))
        assert sum(asked) == 1

    worked(house, steps)
