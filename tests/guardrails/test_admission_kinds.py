"""Every kind of limit that admission judges, on a real Valkey: tokens, requests and running calls, alone and together."""

import asyncio
from typing import Any

import pytest

from gateway_project.lib import ids, redis
from gateway_project.lib.money import NANO
from guardrails import admission, counters, loading
from guardrails.admission import Admitted
from guardrails.limits import Limit
from tests.coroutines import with_lease
from tests.guardrails.books import DAY_MS, SUBJECTS, Desk, budget, limit, now_ms, rpm, settle

BEYOND = 9_100_000 * NANO + 1  # 2^53 nano-dollars are about nine million dollars


def tpm(value: int, subject: str = "k1") -> Limit:
    return limit("tpm", value, subject, window="minute")


def parallel(value: int, subject: str = "k1") -> Limit:
    return limit("parallel", value, subject)


def rpd(value: int, subject: str = "k1", *, starts_ms: int, ends_ms: int | None = None) -> Limit:
    ends = starts_ms + DAY_MS if ends_ms is None else ends_ms
    return limit("rpd", value, subject, window="day", starts_ms=starts_ms, ends_ms=ends, until_ms=ends)


def rates(desk: Desk, subject: str = "k1") -> dict[str, int]:
    found: Any = redis.client().hgetall(counters.rate(desk.organization_id, desk.token, subject))
    return {name.decode(): int(value) for name, value in found.items()}


def counted_at(desk: Desk, seconds_ago: dict[int, int], *, prefix: str = "", pruned_ago: int) -> None:
    """The rate counter as calls of the past would have left it."""
    now = now_ms() // 1000
    fields: Any = {f"{prefix}{now - ago}": count for ago, count in seconds_ago.items()}
    fields |= {f"{prefix}sum": sum(seconds_ago.values()), f"{prefix}pruned": now - pruned_ago}
    redis.client().hset(counters.rate(desk.organization_id, desk.token, "k1"), mapping=fields)


# --- tokens per minute -----------------------------------------------------------------------------------


def test_tokens_are_reserved_and_corrected_by_what_was_used() -> None:
    async def work() -> None:
        desk = Desk(tpm(100))
        first = await desk.admitted(tokens=60)
        assert (first.token_rate, first.tokens_left) == (tpm(100), 40)
        assert (await desk.refused(tokens=41)).used == 60

        await settle(first, 0, tokens=25)  # fewer than reserved: the rest is free again
        second = await desk.admitted(tokens=75)
        assert second.tokens_left == 0

        await settle(second, 0, tokens=95)  # more: the next ones wait for it
        refused = await desk.refused(tokens=0)
        assert (refused.used, refused.limit.kind) == (120, "tpm")

    with_lease(work())


def test_tokens_nobody_counted_stay_as_reserved_and_a_released_call_used_none() -> None:
    async def work() -> None:
        desk = Desk(tpm(100))
        await settle(await desk.admitted(tokens=30), 0)
        assert rates(desk)["tsum"] == 30
        await admission.release(await desk.admitted(tokens=50))
        assert rates(desk)["tsum"] == 30

    with_lease(work())


def test_tokens_are_corrected_once_and_in_the_second_they_were_reserved_in() -> None:
    async def work() -> None:
        desk = Desk(tpm(1000))
        held = await desk.admitted(tokens=300)
        await asyncio.sleep(1.1)
        await desk.admitted(tokens=1)
        for first in (True, False):
            assert await settle(held, 0, tokens=500) == first
        found = rates(desk)
        assert (found["tsum"], found[f"t{held.admitted_ms // 1000}"]) == (501, 500)
        assert len([name for name in found if name[1:].isdigit()]) == 2

    with_lease(work())


def test_tokens_of_more_than_a_minute_ago_are_corrected_nowhere() -> None:
    async def work() -> None:
        desk = Desk(tpm(1000))
        held = await desk.admitted(tokens=300)
        redis.client().delete(counters.rate(desk.organization_id, desk.token, "k1"))
        await settle(held, 0, tokens=900)
        assert rates(desk) == {}
        assert (await desk.admitted(tokens=1000)).tokens_left == 0

    with_lease(work())


def test_a_minute_of_tokens_slides_and_a_refusal_tells_when_enough_will_have_left() -> None:
    async def work() -> None:
        desk = Desk(tpm(100))
        counted_at(desk, {62: 500, 50: 30, 20: 40, 5: 20}, prefix="t", pruned_ago=70)
        refused = await desk.refused(tokens=35)
        assert refused.used == 90
        assert 8_000 <= refused.retry_after_ms <= 10_000  # the 30 are enough
        refused = await desk.refused(tokens=60)
        assert 38_000 <= refused.retry_after_ms <= 40_000  # the 40 too
        assert (await desk.refused(tokens=101)).retry_after_ms == 60_000  # never
        assert (await desk.admitted(tokens=10)).tokens_left == 0

    with_lease(work())


def test_refused_calls_reserve_no_tokens() -> None:
    async def work() -> None:
        desk = Desk(tpm(100), rpm(1), budget(10))
        await desk.admitted(tokens=10)
        before = desk.everything()
        await desk.refused(tokens=10)
        await desk.refused(99, tokens=10)
        assert desk.everything() == before

    with_lease(work())


def test_tokens_of_each_subject_are_counted_by_themselves() -> None:
    async def work() -> None:
        desk = Desk(tpm(100, "k1"), tpm(50, "m1"), tpm(70, "m1"), budget(10))
        held = await desk.admitted(tokens=20)
        assert (held.token_rate, held.tokens_left) == (tpm(50, "m1"), 30)
        assert (rates(desk, "k1")["tsum"], rates(desk, "m1")["tsum"], rates(desk, "org")) == (20, 20, {})
        await settle(held, 0, tokens=45)
        assert (await desk.refused(tokens=6)).limit == tpm(50, "m1")

    with_lease(work())


@pytest.mark.parametrize(("kind", "other"), [("", "t"), ("t", "")])
def test_a_rate_that_was_not_asked_for_a_while_leaves_the_other_alone(kind: str, other: str) -> None:
    """Requests and tokens of a subject share a hash; one of them may have been counted long ago, under a limit of then."""

    async def work() -> None:
        desk = Desk(rpm(10), tpm(10))
        counted_at(desk, {320: 2, 300: 7}, prefix=kind, pruned_ago=360)
        counted_at(desk, {10: 4}, prefix=other, pruned_ago=60)
        held = await desk.admitted(tokens=1)
        left = {"": held.rate_left, "t": held.tokens_left}
        assert left == {kind: 9, other: 5}
        fields = [name for name in rates(desk) if name.removeprefix("t").isdigit()]
        assert len(fields) == 3  # now of both, and the one of ten seconds ago

    with_lease(work())


# --- requests per day ------------------------------------------------------------------------------------


def test_requests_of_a_day_are_counted_until_it_is_over() -> None:
    async def work() -> None:
        starts, ends = now_ms() - 3_600_000, now_ms() + 7_000_000
        desk = Desk(rpd(2, starts_ms=starts, ends_ms=ends))
        await settle(await desk.admitted(), 0)
        await admission.release(await desk.admitted())  # it was let through, whatever came of it
        refused = await desk.refused()
        assert (refused.limit.kind, refused.used, refused.held) == ("rpd", 2, 0)
        assert ends - now_ms() - 100 <= refused.retry_after_ms <= ends - now_ms() + 2_000
        assert desk.counter("k1")[f"q:{starts}"] == "2"

    with_lease(work())


def test_a_new_day_begins_at_nothing_and_old_days_are_forgotten() -> None:
    async def work() -> None:
        today = now_ms() - 1000
        yesterday, before = today - DAY_MS, today - 4 * DAY_MS
        desk = Desk()
        for day in (before, yesterday, today):
            desk.set(rpd(5, starts_ms=day, ends_ms=today + DAY_MS))
            await desk.admitted()
        found = {name: value for name, value in desk.counter("k1").items() if name.startswith("q:")}
        assert found == {f"q:{yesterday}": "1", f"q:{today}": "1"}

    with_lease(work())


def test_requests_of_the_day_survive_an_emptied_redis() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        desk = Desk(rpd(3, starts_ms=starts), budget(100))
        await settle(await desk.admitted(5), 5)
        desk.books.counted["k1", starts] = 2
        redis.client().delete(counters.counter(desk.organization_id, desk.token, "k1"))
        await desk.admitted(5)
        assert (await desk.refused(5)).used == 3

    with_lease(work())


def test_a_daily_limit_set_later_begins_from_what_the_ledger_counted() -> None:
    async def work() -> None:
        desk = Desk(budget(100))
        await desk.admitted(1)
        starts = now_ms() - 1000
        desk.books.counted["m1", starts] = 7
        desk.set(rpd(7, "m1", starts_ms=starts), budget(100))
        assert (await desk.refused(1)).used == 7
        desk.set(rpd(8, "m1", starts_ms=starts), budget(100))
        await desk.admitted(1)
        assert (await desk.refused(1)).used == 8

    with_lease(work())


def test_refused_calls_do_not_count_in_the_day() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        desk = Desk(rpd(2, starts_ms=starts), budget(100))
        for _ in range(5):
            await desk.refused(101)
        await desk.admitted(1)
        assert desk.counter("k1")[f"q:{starts}"] == "1"

    with_lease(work())


# --- parallel calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["settle", "release", "resolve"])
def test_a_place_is_given_back_when_a_call_ends(end: str) -> None:
    async def work() -> None:
        desk = Desk(parallel(2), parallel(5, "org"))
        held = await desk.admitted()
        await desk.admitted()
        refused = await desk.refused()
        assert (refused.limit, refused.used, refused.held) == (parallel(2), 2, 0)
        assert refused.retry_after_ms == 1000
        for first in (True, False):
            if end == "settle":
                assert await settle(held, 3) == first
            elif end == "release":
                assert await admission.release(held) == first
            else:
                resolved = admission.settle_hold(desk.organization_id, held.call_id, SUBJECTS)
                assert await resolved == first
        assert [desk.counter(subject).get("live") for subject in ("k1", "m1", "org")] == ["1", None, "1"]
        await desk.admitted()
        await desk.refused()

    with_lease(work())


def test_many_at_once_never_run_more_than_are_allowed() -> None:
    async def work() -> None:
        desk = Desk(parallel(3))
        running, most = 0, 0

        async def call() -> int:
            nonlocal running, most
            outcome = await desk.admit(0)
            if not isinstance(outcome, Admitted):
                return 0
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            await settle(outcome, 0)
            return 1

        done = 0
        for _ in range(5):
            done += sum(await asyncio.gather(*(call() for _ in range(10))))
        assert most == 3
        assert done >= 15
        assert desk.counter("k1")["live"] == "0"

    with_lease(work())


def test_a_limit_that_is_lifted_while_calls_run_leaves_nothing_behind() -> None:
    async def work() -> None:
        desk = Desk(parallel(2))
        held = [await desk.admitted() for _ in range(2)]
        desk.set()
        held.append(await desk.admitted())
        for one in held:
            await settle(one, 0)
        assert desk.counter("k1")["live"] == "0"

    with_lease(work())


def test_an_unloaded_counter_keeps_running_calls_and_the_days_requests() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        desk = Desk(parallel(1), rpd(9, starts_ms=starts))
        held = await desk.admitted()
        await loading.unload(desk.organization_id, ["k1"])
        assert (await desk.refused()).limit.kind == "parallel"
        await settle(held, 0)
        await desk.admitted()
        assert desk.counter("k1")[f"q:{starts}"] == "2"

    with_lease(work())


# --- several at once -------------------------------------------------------------------------------------


def test_whichever_triggers_first_answers_money_before_rates_rates_in_the_order_of_the_path() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        day = rpd(1, "m1", starts_ms=starts)
        desk = Desk(tpm(10), rpm(2), parallel(1, "g1"), day, budget(100, "org"))
        assert (await desk.refused(101, tokens=11)).limit.kind == "budget"
        assert (await desk.refused(100, tokens=11)).limit.kind == "tpm"
        await desk.admitted(50, tokens=4)
        assert (await desk.refused(1, tokens=7)).limit.kind == "tpm"
        assert (await desk.refused(1, tokens=1)).limit == day
        desk.set(tpm(10), rpm(2), parallel(1, "g1"), budget(100, "org"))
        assert (await desk.refused(1, tokens=1)).limit.kind == "parallel"
        desk.set(tpm(10), rpm(1), parallel(1, "g1"), budget(100, "org"))
        assert (await desk.refused(1, tokens=1)).limit.kind == "rpm"

    with_lease(work())


def test_all_kinds_at_once_cost_one_round_trip_and_are_all_counted() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        desk = Desk(tpm(100), rpm(10), parallel(3, "g1"), rpd(9, "m1", starts_ms=starts), budget(100, "org"))
        await settle(await desk.admitted(1, tokens=10), 1)
        await desk.admitted(0)
        before = scripts_run()
        held = await desk.admitted(7, tokens=20)
        assert scripts_run() == before + 1
        assert (held.rate_left, held.tokens_left, held.left_nano_usd) == (7, 70, 92)
        assert (
            desk.holds()[str(held.call_id)] == f"7|0|r|{held.admitted_ms}|20|1|3|{worker_of(desk, held)}|k1,m1,g1,org,pool|{{}}"
        )

    with_lease(work())


def scripts_run() -> int:
    found: Any = redis.client().info("commandstats")
    return int(found["cmdstat_evalsha"]["calls"])


def worker_of(desk: Desk, held: Admitted) -> str:
    return desk.holds()[str(held.call_id)].split("|")[7]


def test_the_same_call_twice_is_counted_once_by_every_kind() -> None:
    async def work() -> None:
        starts = now_ms() - 1000
        desk = Desk(tpm(100), rpm(10), parallel(3), rpd(9, starts_ms=starts), budget(100, "org"))
        call_id = ids.new_call_id()
        await desk.admitted(7, call_id=call_id, tokens=20)
        before = desk.everything()
        again = await desk.admitted(7, call_id=call_id, tokens=20)
        assert desk.everything() == before
        await settle(again, 5, tokens=30)
        assert (desk.held(), desk.spent(), desk.counter("k1")["live"], rates(desk)["tsum"]) == (0, 5, "0", 30)

    with_lease(work())


def test_settling_an_unknown_call_adds_its_charge_exactly_once() -> None:
    async def work() -> None:
        desk = Desk(budget(BEYOND * 2), parallel(5), tpm(100))
        await settle(await desk.admitted(1, tokens=10), 1, tokens=10)
        unknown = Admitted(
            call_id=ids.new_call_id(), limits=desk.limits, amount_nano_usd=0, admitted_ms=now_ms(), clamped=False, unguarded=True
        )
        for first in (True, False, False):
            assert await settle(unknown, BEYOND, transaction_id=1001, tokens=50) == first
        assert (desk.spent(), desk.held(), desk.counter("k1")["live"], rates(desk)["tsum"]) == (BEYOND + 1, 0, "0", 10)

    with_lease(work())


def test_as_many_limits_as_no_path_will_ever_have_are_judged_all_the_same() -> None:
    """They reach the script as one list of values, of which Lua takes 8,000."""

    async def work() -> None:
        desk = Desk(*(budget(1000 - number, "org") for number in range(700)), *(rpm(2000 - number) for number in range(700)))
        held = await desk.admitted(300)
        assert (held.tightest, held.left_nano_usd, held.rate_left) == (budget(301, "org"), 1, 1300)
        assert (await desk.refused(2)).limit == budget(301, "org")

    with_lease(work())
