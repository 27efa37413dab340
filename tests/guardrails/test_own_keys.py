"""Calls on own provider keys: no pool pays them, budgets count them where they say so, and every figure stays exact."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_project.lib import redis
from gateway_project.lib.money import NANO
from guardrails import counters, generations, headroom, loading, shrinking
from guardrails.admission import Admitted, Degrade
from tests.coroutines import with_lease
from tests.guardrails.books import DAY_MS, SUBJECTS, Books, Desk, budget, limit, now_ms, settle
from tests.guardrails.crews import Company, Crew, crew

__all__ = ["crew"]

MILLIONS = 9_100_000 * NANO


def figures(desk: Desk, subject: str) -> dict[str, int]:
    counter = desk.counter(subject)
    return {field: int(counter.get(field, 0)) for field in ("spent", "own", "held", "held_own")}


def test_neither_an_empty_pool_nor_a_budget_that_does_not_count_them_refuses_them() -> None:
    async def work() -> None:
        desk = Desk(budget(0, "pool"), budget(0, "org"), budget(0, "k1"))
        held = await desk.admitted(40, own_only=True)
        assert held.tightest is None
        assert figures(desk, "pool") == {"spent": 0, "own": 0, "held": 40, "held_own": 40}
        await settle(held, 0, own=25)
        assert figures(desk, "org") == {"spent": 0, "own": 25, "held": 0, "held_own": 0}
        assert figures(desk, "pool") == {"spent": 0, "own": 0, "held": 0, "held_own": 0}
        assert (await desk.refused(1)).used == 0

    with_lease(work())


def test_a_budget_that_counts_them_counts_both_sorts() -> None:
    async def work() -> None:
        desk = Desk(budget(100, "k1", counts_byok=True), budget(100, "org"))
        await settle(await desk.admitted(40, own_only=True), 0, own=30)
        await settle(await desk.admitted(40), 20)
        running = await desk.admitted(10, own_only=True)
        refused = await desk.refused(41, own_only=True)
        assert (refused.limit.node, refused.used, refused.held) == ("k1", 50, 10)
        refused = await desk.refused(41)
        assert (refused.limit.node, refused.used, refused.held) == ("k1", 50, 10)
        last = await desk.admitted(40, own_only=True)
        assert (last.tightest, last.left_nano_usd) == (desk.limits.judged[0], 0)
        wide, plain = await headroom.of(desk.limits, source=desk.books)
        assert (wide.used, wide.held, plain.used, plain.held) == (50, 50, 20, 0)
        await settle(running, 0, own=10)

    with_lease(work())


def test_what_may_go_either_way_is_held_for_both() -> None:
    async def work() -> None:
        desk = Desk(budget(100, "k1", counts_byok=True), budget(50, "org"))
        held = await desk.admitted(50)
        assert (await desk.refused(1)).limit.node == "org"
        await desk.admitted(50, own_only=True)
        assert (await desk.refused(1, own_only=True)).limit.node == "k1"
        await settle(held, 0, own=20)
        assert figures(desk, "org") == {"spent": 0, "own": 20, "held": 50, "held_own": 50}
        await desk.admitted(30)
        assert (await desk.refused(1)).limit.node == "k1"

    with_lease(work())


@pytest.mark.parametrize("amount", [99_999_990_000_001, 100_000_010_000_003, MILLIONS + 1, 2**53 + 1, 4 * 10**18])
def test_amounts_stay_exact_however_large(amount: int) -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        books = Books({"org": 3}, {("org", starts): 1}, own={"org": amount}, own_before={("org", starts): amount - 5})
        window: Any = {"starts_ms": starts, "ends_ms": starts + DAY_MS}
        desk = Desk(budget(amount, "org", counts_byok=True, **window), budget(amount, "m1"), books=books)
        held = await desk.admitted(amount - 8, own_only=True)
        assert held.left_nano_usd == 1
        refused = await desk.refused(2, own_only=True)
        assert (refused.used, refused.held) == (7, amount - 8)
        assert (await desk.admitted(1)).left_nano_usd == 0
        assert (await desk.refused(amount)).limit.node == "org"
        await settle(held, 0, own=amount - 8, recorded_ms=starts - 1)
        assert figures(desk, "org")["own"] == 2 * amount - 8
        assert desk.counter("org")[f"o:{starts}"] == str(2 * amount - 13)

    with_lease(work())


def test_more_than_a_counter_can_count_is_held_by_nobody_and_leaves_nothing() -> None:
    async def work() -> None:
        desk = Desk(budget(0, "pool"))
        first = await desk.admitted(8 * 10**18, own_only=True)
        before = desk.everything()
        for amount in (2 * 10**18, 10**25):
            with pytest.raises(redis.RedisUnavailable, match="more than can be counted"):
                await desk.admit(amount, own_only=True)
        assert desk.everything() == before
        await desk.admitted(10**18, own_only=True)
        await settle(first, 0, own=7)
        assert figures(desk, "org") == {"spent": 0, "own": 7, "held": 10**18, "held_own": 10**18}

    with_lease(work())


def test_a_window_begins_with_what_own_keys_had_cost_by_then() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        books = Books({"org": 90}, {("org", starts): 80}, own={"org": 70}, own_before={("org", starts): 40})
        day: Any = {"starts_ms": starts, "ends_ms": starts + DAY_MS}
        desk = Desk(budget(100, "org", counts_byok=True, **day), books=books)
        assert (await desk.refused(61)).used == 40
        desk.set(budget(100, "org", **day))
        assert (await desk.refused(91)).used == 10
        await desk.admitted(90)

    with_lease(work())


def test_a_charge_that_lands_while_its_counter_is_loaded_is_noted_with_both_sorts() -> None:
    async def work() -> None:
        desk = Desk(budget(100, "org", counts_byok=True))
        held = await desk.admitted(40, own_only=True)
        keys = counters.counters(desk.organization_id, desk.token, ("org",))
        await loading.unload(desk.organization_id, ("org",))
        (moment,) = await redis.scripts().run(loading.BEGIN_LOAD, keys, ())
        await settle(held, 0, own=30, transaction_id=2000)
        assert desk.counter("org")[f"n:{held.call_id}"].endswith(":0:30")
        assert await redis.scripts().run(loading.LOAD, keys, (moment, "0", "5", "1000:1000:")) == 1
        assert figures(desk, "org") == {"spent": 0, "own": 35, "held": 0, "held_own": 0}

    with_lease(work())


def test_a_spooled_call_on_an_own_key_holds_its_exact_cost_for_those_who_count_it() -> None:
    async def work() -> None:
        desk = Desk(budget(100, "k1", counts_byok=True), budget(100, "org"))
        for own_only in (True, False):
            held = await desk.admitted(40, own_only=own_only)
            assert await shrinking.shrink(desk.organization_id, held.call_id, subjects=SUBJECTS, charged=0, own=7)
            assert desk.holds()[str(held.call_id)].startswith("7|7|s|")
            assert figures(desk, "org")["held"] == figures(desk, "org")["held_own"] == 7
            assert (await desk.refused(94)).held == 7
            await settle(held, 0, own=0)

    with_lease(work())


def test_a_call_near_the_cap_goes_elsewhere_only_where_the_budget_counts_it() -> None:
    async def work() -> None:
        near: dict[str, Any] = {"window": "total", "keep": 50, "degrade_model": "cheap"}
        desk = Desk(limit("budget", 100, "org", **near))
        assert isinstance(await desk.admit(60, may_degrade=True), Degrade)
        assert isinstance(await desk.admit(60, may_degrade=True, own_only=True), Admitted)
        desk.set(limit("budget", 100, "org", counts_byok=True, **near))
        assert isinstance(await desk.admit(1, may_degrade=True, own_only=True), Degrade)

    with_lease(work())


def test_a_call_is_clamped_by_the_budgets_that_count_it() -> None:
    async def work() -> None:
        desk = Desk(budget(30, "k1", counts_byok=True), budget(5, "org"))
        held = await desk.admitted(100, least=20, own_only=True)
        assert (held.amount_nano_usd, held.clamped) == (30, True)
        assert desk.holds()[str(held.call_id)].startswith("30|30|r|")

    with_lease(work())


def test_a_new_generation_is_told_which_part_can_only_go_to_own_keys(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company(budget(100, "k1", counts_byok=True), budget(100, "org"))
    held = worker.do(company.admitted(60, own_only=True))
    crew.flush()
    worker.do(company.admitted(40))
    assert (company.figure("held"), company.figure("held_own")) == (100, 60)
    assert worker.do(company.settle(held, 0, own=60))
    assert (company.figure("held"), company.figure("held_own"), company.figure("own")) == (40, 0, 60)


def test_what_a_version_with_another_layout_counted_is_left_behind(crew: Crew) -> None:
    """Its counters know nothing of own keys: they are loaded anew, under a token of this layout."""
    company = Company(budget(100, "org"))
    client: Any = redis.client()
    run_id = client.info("server")["run_id"]
    client.set(counters.GENERATION, f"{run_id}:0a1b2c3d")
    client.set(counters.generation(company.organization_id), f"{run_id}:0a1b2c3d")
    client.hset(counters.counter(company.organization_id, "0a1b2c3d", "org"), mapping={"spent": 99, "held": 0})
    (worker,) = crew.hire(1)
    held = worker.do(company.admitted(100))
    assert held.limits.generation.startswith(generations.LAYOUT)
    assert generations.sweep() == 1
