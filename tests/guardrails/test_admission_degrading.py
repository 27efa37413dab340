"""Budgets near their cap, limits that change by themselves, and amounts beyond what doubles hold."""

from typing import Any

import pytest

from gateway_project.lib import redis
from gateway_project.lib.money import NANO
from guardrails import counters
from guardrails.admission import Admitted, Degrade, Refused, Stale
from guardrails.limits import Limit
from tests.coroutines import with_lease
from tests.guardrails.books import DAY_MS, Books, Desk, budget, limit, now_ms, rpm, settle

BEYOND = 9_100_000 * NANO + 1  # 2^53 nano-dollars are about nine million dollars
# On both sides of where sums are taken otherwise: amounts of 15 digits, limits of 4 · 10^15.
LARGE = [100, 99_999_990_000_000, 100_000_010_000_000, 10**15, 4 * 10**15 - 1, 4 * 10**15, 9_100_000 * NANO, 4 * 10**18]


def rates(desk: Desk) -> Any:
    return redis.client().hgetall(counters.rate(desk.organization_id, desk.token, "k1"))


def near(value: int, percent: int, subject: str = "org") -> Limit:
    return limit("budget", value, subject, window="total", keep=value - value * percent // 100, degrade_model="cheap")


@pytest.mark.parametrize("value", LARGE)
@pytest.mark.parametrize("percent", [1, 50, 80, 99])
def test_the_threshold_is_exact_to_the_nano_dollar(value: int, percent: int) -> None:
    async def work() -> None:
        up_to = value * percent // 100
        for spent, amount in ((up_to - 1, 1), (0, up_to)):
            desk = Desk(near(value, percent), books=Books({"org": spent}))
            assert isinstance(await desk.admit(amount, may_degrade=True), Admitted)
        for spent, amount in ((up_to, 1), (0, up_to + 1), (value, 1)):
            desk = Desk(near(value, percent), books=Books({"org": spent}))
            before = desk.holds()
            assert await desk.admit(amount, may_degrade=True) == Degrade(near(value, percent))
            assert desk.holds() == before

    with_lease(work())


def test_what_is_held_brings_a_budget_near_its_cap() -> None:
    async def work() -> None:
        desk = Desk(near(100, 80))
        held = await desk.admitted(80)
        assert isinstance(await desk.admit(1, may_degrade=True), Degrade)
        await settle(held, 10)
        assert isinstance(await desk.admit(1, may_degrade=True), Admitted)

    with_lease(work())


def test_a_call_that_may_not_degrade_may_use_the_whole_budget() -> None:
    async def work() -> None:
        desk = Desk(near(100, 80))
        await desk.admitted(100)
        assert isinstance(await desk.admit(1, may_degrade=True), Degrade)
        assert isinstance(await desk.admit(1), Refused)

    with_lease(work())


def test_the_most_specific_budget_names_the_model_and_rates_are_judged_for_the_call_that_is_made() -> None:
    async def work() -> None:
        desk = Desk(near(100, 80, "m1"), near(50, 10, "org"), rpm(1), limit("tpm", 10, "k1"))
        found = await desk.admit(90, may_degrade=True, tokens=99)
        assert isinstance(found, Degrade)
        assert found.limit.node == "m1"
        assert isinstance(found := await desk.admit(10, may_degrade=True), Degrade)
        assert found.limit.node == "org"
        assert (desk.held(), rates(desk)) == (0, {})

    with_lease(work())


def test_a_degrading_budget_of_a_window_counts_from_its_start() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        times: dict[str, Any] = {"starts_ms": starts, "ends_ms": starts + DAY_MS, "until_ms": starts + DAY_MS}
        books = Books({"org": BEYOND + 70}, {("org", starts): BEYOND})
        desk = Desk(limit("budget", 100, "org", window="day", keep=20, degrade_model="cheap", **times), books=books)
        assert isinstance(await desk.admit(11, may_degrade=True), Degrade)
        assert isinstance(await desk.admit(10, may_degrade=True), Admitted)

    with_lease(work())


# --- overrides begin and end -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["budget", "rpm", "tpm", "parallel"])
def test_a_limit_whose_override_has_begun_or_ended_must_be_compiled_again(kind: Any) -> None:
    async def work() -> None:
        now = now_ms()
        desk = Desk(limit(kind, 100, "k1", until_ms=now + 60_000))
        await desk.admitted(1, tokens=1)
        desk.set(limit(kind, 100, "k1", until_ms=now - 1))
        with pytest.raises(Stale) as caught:
            await desk.admit(1, tokens=1)
        assert caught.value.now is not None
        assert caught.value.now.timestamp() * 1000 >= now - 1
        assert len(desk.holds()) == 1

    with_lease(work())


def test_the_moment_itself_belongs_to_what_comes_after() -> None:
    async def work() -> None:
        until = now_ms() + 300
        desk = Desk(budget(100), limit("budget", 100, "k1", until_ms=until))
        stale = None
        while stale is None:
            try:
                held = await desk.admitted(0)
            except Stale as found:
                stale = found
            else:
                assert held.admitted_ms < until
        assert stale.now is not None
        assert round(stale.now.timestamp() * 1000) >= until

    with_lease(work())


def test_amounts_beyond_what_doubles_hold_are_kept_to_the_last_digit() -> None:
    async def work() -> None:
        most = 4 * 10**18
        desk = Desk(budget(most, "k1"), budget(most - 1, "org"), books=Books({"k1": BEYOND, "org": BEYOND - 1}))
        first = await desk.admitted(BEYOND)
        assert first.left_nano_usd == most - 2 * BEYOND
        refused = await desk.refused(most - 2 * BEYOND + 1)
        assert (refused.used, refused.held) in {(BEYOND, BEYOND), (BEYOND - 1, BEYOND)}
        last = await desk.admitted(most - 2 * BEYOND)
        assert last.left_nano_usd == 0
        assert (desk.held("k1"), desk.holds()[str(last.call_id)].split("|")[0]) == (most - BEYOND, str(most - 2 * BEYOND))
        await settle(last, most - 2 * BEYOND)
        await settle(first, BEYOND - 3)
        assert (desk.spent("k1"), desk.held("k1")) == (most - 3, 0)
        assert (await desk.refused(4)).used in {most - 3, most - 4}
        assert (await desk.admitted(3)).left_nano_usd == 0

    with_lease(work())
