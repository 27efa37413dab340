"""The lease of a worker: renewed while it lives, given up in good order, and a reason to stop once it is lost."""

import asyncio
from typing import Any

import pytest
from pytest_django import Settings

from gateway_project.lib import lifespan, redis
from guardrails import admission, counters, leases
from guardrails.leases import LeaseLost
from tests.coroutines import with_lease
from tests.guardrails.books import Desk, budget


def time_left_ms(worker_id: str) -> int:
    """−2 where there is no such key."""
    return int(redis.client().pttl(counters.worker(worker_id)))


def test_a_worker_has_one_lease_from_its_start_to_its_orderly_end() -> None:
    async def work() -> str:
        name = leases.worker_id()
        assert 0 < time_left_ms(name) <= 10_000
        await leases.start()
        assert leases.worker_id() == name
        return name

    assert time_left_ms(with_lease(work())) == -2


def test_two_workers_have_two_names() -> None:
    async def name() -> str:
        return leases.worker_id()

    assert with_lease(name()) != with_lease(name())


def test_it_is_renewed_every_second(settings: Settings) -> None:
    async def work() -> None:
        redis.client().pexpire(counters.worker(leases.worker_id()), 5_000)
        async with asyncio.timeout(4):
            while time_left_ms(leases.worker_id()) <= 5_000:
                await asyncio.sleep(0.1)

    with_lease(work())


def test_a_worker_that_could_not_renew_stops_before_others_may_take_its_holds(settings: Settings) -> None:
    async def work() -> None:
        lease = leases.current()
        lease.renewed_at -= settings.LEASE_SECONDS - leases.MARGIN_SECONDS + 0.1
        assert time_left_ms(lease.worker_id) > leases.MARGIN_SECONDS * 1000
        with pytest.raises(LeaseLost):
            leases.refuse_if_lost()

        await lease.renew()
        leases.refuse_if_lost()

    with_lease(work())


def test_nothing_is_admitted_without_a_lease(settings: Settings) -> None:
    async def work() -> None:
        desk = Desk(budget(100))
        before = desk.everything()
        leases.current().renewed_at -= settings.LEASE_SECONDS
        with pytest.raises(LeaseLost):
            await desk.admit(1)
        assert desk.everything() == before

    with_lease(work())


def test_a_renewal_that_redis_does_not_answer_is_no_renewal(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"

    async def work() -> tuple[float, float]:
        lease = leases.current()
        before = lease.renewed_at
        await lease.renew()
        return before, lease.renewed_at

    before, after = with_lease(work())
    assert before == after


def test_an_organisation_is_announced_once_before_its_first_hold() -> None:
    async def work() -> None:
        lease = leases.current()
        await lease.announce(4_000_001)
        redis.client().srem(counters.ACTIVE_ORGANIZATIONS, 4_000_001)
        await lease.announce(4_000_001)
        assert not redis.client().sismember(counters.ACTIVE_ORGANIZATIONS, "4000001")

    with_lease(work())


def test_a_loop_without_a_lease_may_not_admit() -> None:
    async def work() -> Any:
        try:
            return await Desk(budget(100)).admit(1)
        finally:
            await lifespan.stop()

    with pytest.raises(LookupError, match="no lease"):
        asyncio.run(work())


def test_checks_run_with_every_renewal_one_round_at_a_time_and_keep_none_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)

    async def work() -> None:
        begun, gate = 0, asyncio.Event()

        async def check() -> None:
            nonlocal begun
            begun += 1
            if begun == 1:
                raise redis.RedisUnavailable
            await gate.wait()

        async def renewed() -> None:
            redis.client().delete(counters.worker(leases.worker_id()))
            while time_left_ms(leases.worker_id()) < 0:
                await asyncio.sleep(0.02)

        leases.current().on_renewal(check)
        async with asyncio.timeout(20):
            while begun < 2:  # the first fails
                await asyncio.sleep(0.02)
            for _ in range(3):
                await renewed()
            assert begun == 2  # the second waits, and no other begins
            gate.set()
            while begun < 3:
                await asyncio.sleep(0.02)

    with_lease(work())


def test_organisations_that_redis_forgot_are_announced_again() -> None:
    async def work() -> None:
        lease = leases.current()
        await lease.announce(4_000_002)
        redis.client().srem(counters.ACTIVE_ORGANIZATIONS, 4_000_002)
        await lease.renew()
        assert redis.client().sismember(counters.ACTIVE_ORGANIZATIONS, "4000002")

    with_lease(work())


def test_what_a_call_holds_is_known_until_it_ends() -> None:
    async def work() -> None:
        desk = Desk(budget(100))
        held = await desk.admitted(30)
        hold = leases.current().holds[held.call_id]
        assert (hold.organization_id, hold.subjects) == (desk.organization_id, desk.limits.subjects)
        assert hold.record == desk.holds()[str(held.call_id)]
        await admission.release(held)
        assert leases.current().holds == {}
        leases.forget(held.call_id)

    with_lease(work())
