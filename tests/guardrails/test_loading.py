"""Cold counters: what is missing is read from the ledger, once, however many ask, and never twice into one figure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway_project.lib import redis
from guardrails import counters, loading
from guardrails.limits import Limit
from guardrails.loading import Spend, Wanted
from tests.coroutines import with_lease
from tests.guardrails.books import DAY_MS, Books, Desk, budget, limit, now_ms


def rpd(value: int, starts_ms: int, subject: str = "k1") -> Limit:
    ends = starts_ms + DAY_MS
    return limit("rpd", value, subject, window="day", starts_ms=starts_ms, ends_ms=ends, until_ms=ends)


def test_all_that_limits_need_of_a_subject_is_asked_for_at_once() -> None:
    day, month = now_ms() - 1000, now_ms() - 9 * DAY_MS
    desk = Desk(
        budget(1, "k1"),
        budget(1, "k1", starts_ms=month, ends_ms=day + DAY_MS),
        budget(2, "k1", starts_ms=day, ends_ms=day + DAY_MS),
        budget(3, "k1", starts_ms=day, ends_ms=day + DAY_MS),
        limit("rpm", 5, "m1"),
        rpd(7, day),
    )
    assert loading.wanted(desk.limits, ["k1", "m1", "org"]) == {
        "k1": Wanted((month, day), (day,)),
        "m1": Wanted(),
        "org": Wanted(),
    }


def test_what_is_there_is_not_missing() -> None:
    async def work() -> None:
        day = now_ms() - 1000
        desk = Desk(budget(100, "k1", starts_ms=day, ends_ms=day + DAY_MS), rpd(7, day))
        asked = loading.wanted(desk.limits, ["k1", "m1"])
        assert await loading.still_missing(desk.limits, asked) == asked
        await desk.admitted(1)
        assert await loading.still_missing(desk.limits, asked) == {}
        key = counters.counter(desk.organization_id, desk.token, "k1")
        for field in (f"q:{day}", f"b:{day}", "spent"):
            redis.client().hdel(key, field)
            assert await loading.still_missing(desk.limits, asked) == {"k1": asked["k1"]}

    with_lease(work())


def test_figures_that_took_too_long_are_not_written() -> None:
    async def work() -> None:
        desk = Desk(budget(100))
        key = counters.counter(desk.organization_id, desk.token, "org")
        began = now_ms() - 11_000
        redis.client().hset(key, "loading", began)
        load = redis.client().register_script(loading.LOAD.source)
        assert load(keys=[key], args=[began, 5, 0, "1:1:"]) == 0
        assert desk.counter("org") == {"loading": str(began)}
        await desk.admitted(1)
        assert "loading" not in desk.counter("org")

    with_lease(work())


def test_a_load_somebody_gave_up_does_not_keep_others_waiting() -> None:
    """Its worker died between asking the ledger and writing: the next one begins its own at once."""

    async def work() -> None:
        desk = Desk(budget(100), books=Books({"org": 40}))
        keys = counters.counters(desk.organization_id, desk.token, ("k1", "m1", "g1", "org", "pool"))
        await redis.scripts().run(loading.BEGIN_LOAD, keys, ())
        assert (await desk.refused(61)).used == 40
        await desk.admitted(60)

    with_lease(work())


class Failing(Books):
    """A ledger that is away for the first question."""

    def __init__(self) -> None:
        super().__init__({"org": 40})
        self.away = True

    async def spend(self, *, organization_id: int, starts_by_subject: Mapping[str, Sequence[int]]) -> Spend:
        if self.away:
            self.away = False
            raise ConnectionError("away")
        return await super().spend(organization_id=organization_id, starts_by_subject=starts_by_subject)


def test_a_ledger_that_is_away_fails_the_call_and_not_those_after_it() -> None:
    async def work() -> None:
        desk = Desk(budget(100), books=Failing())
        with pytest.raises(ConnectionError):
            await desk.admit(1)
        assert desk.holds() == {}
        assert (await desk.refused(61)).used == 40

    with_lease(work())


def test_of_callers_that_wait_for_a_load_none_asks_again() -> None:
    async def work() -> None:
        desk = Desk(budget(1000), limit("parallel", 40, "k1"))
        await asyncio.gather(*(desk.admitted(1) for _ in range(30)))
        assert set(desk.books.asked.values()) == {1}
        assert (desk.held(), desk.counter("k1")["live"]) == (30, "30")

    with_lease(work())


def test_organisations_do_not_wait_for_each_other() -> None:
    async def work() -> None:
        slow, quick = Desk(budget(100)), Desk(budget(100))
        gate = asyncio.Event()

        class Slow(Books):
            async def spend(self, **asked: object) -> Spend:
                await gate.wait()
                return await super().spend(**asked)  # type: ignore[arg-type]

        slow.books = Slow()
        waiting = asyncio.ensure_future(slow.admitted(1))
        await asyncio.sleep(0)
        await quick.admitted(1)
        assert not waiting.done()
        gate.set()
        await waiting

    with_lease(work())
