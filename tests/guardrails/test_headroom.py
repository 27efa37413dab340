"""What is left of each limit, as `GET /v1/key` and the console show it."""

from datetime import UTC, datetime

from gateway_project.lib import redis
from gateway_project.lib.money import NANO
from guardrails import counters, headroom
from guardrails.headroom import Headroom
from tests.coroutines import with_lease
from tests.guardrails.books import DAY_MS, Books, Desk, budget, limit, now_ms, rpm, settle


async def of(desk: Desk) -> list[Headroom]:
    return await headroom.of(desk.limits, source=desk.books)


def test_counters_nobody_has_used_yet_are_loaded_from_the_ledger() -> None:
    starts = now_ms() - 1000
    desk = Desk(
        budget(100, "k1"),
        budget(50, "org", starts_ms=starts, ends_ms=starts + DAY_MS),
        books=Books({"k1": 30, "org": 90}, {("org", starts): 80}),
    )

    key, day = with_lease(of(desk))

    assert (key.used, key.held, key.left, key.resets_at) == (30, 0, 70, None)
    assert (day.used, day.held, day.left) == (10, 0, 40)
    assert day.resets_at == datetime.fromtimestamp((starts + DAY_MS) / 1000, tz=UTC)
    assert dict(desk.books.asked) == {("k1", ()): 1, ("org", (starts,)): 1}


def test_it_agrees_with_admission() -> None:
    desk = Desk(budget(100, "k1"), budget(9_100_000 * NANO + 1, "pool"))

    async def work() -> None:
        running = await desk.admitted(30)
        await settle(await desk.admitted(20), 15)
        key, pool = await of(desk)
        assert (key.used, key.held, key.left) == (15, 30, 55)
        assert pool.left == 9_100_000 * NANO + 1 - 45
        assert desk.books.asked.total() == 5
        await desk.refused(56)
        assert (await desk.admitted(55)).left_nano_usd == 0
        assert running.amount_nano_usd == 30

    with_lease(work())


def test_what_is_left_is_never_below_zero() -> None:
    (key,) = with_lease(of(Desk(budget(100, "k1"), books=Books({"k1": 130}))))
    assert (key.used, key.left) == (130, 0)


def test_requests_are_those_of_the_last_minute() -> None:
    desk = Desk(rpm(10))
    assert [(one.used, one.left, one.resets_at) for one in with_lease(of(desk))] == [(0, 10, None)]
    now = now_ms() // 1000
    redis.client().hset(
        counters.rate(desk.organization_id, desk.token, "k1"),
        mapping={str(now - 90): 4, str(now - 61): 1, str(now - 30): 2, str(now): 1, "sum": 8, "pruned": now - 95},
    )

    (rate,) = with_lease(of(desk))

    assert (rate.used, rate.held, rate.left) == (3, 0, 7)


def test_limits_stand_in_the_order_of_the_path() -> None:
    found = with_lease(of(Desk(budget(1, "pool"), rpm(1, "m1"), budget(1, "k1"))))
    assert [one.limit.node for one in found] == ["k1", "m1", "pool"]


def test_every_kind_tells_what_is_used() -> None:
    starts = now_ms() - 1000
    ends = starts + DAY_MS
    day = limit("rpd", 5, "k1", window="day", starts_ms=starts, ends_ms=ends, until_ms=ends)
    desk = Desk(
        rpm(10), limit("tpm", 100, "k1"), day, limit("parallel", 3, "k1"), limit("max_tokens", 50, "k1"), budget(9, "org")
    )
    desk.books.counted["k1", starts] = 2

    async def work() -> None:
        used = {one.limit.kind: (one.used, one.held, one.left) for one in await of(desk)}
        assert used["rpd"] == (2, 0, 3)
        assert used["parallel"] == (0, 0, 3)
        held = await desk.admitted(4, tokens=30)
        used = {one.limit.kind: (one.used, one.held, one.left) for one in await of(desk)}
        assert used == {
            "rpm": (1, 0, 9),
            "tpm": (30, 0, 70),
            "rpd": (3, 0, 2),
            "parallel": (1, 0, 2),
            "max_tokens": (0, 0, 50),
            "budget": (0, 4, 5),
        }
        await settle(held, 3, tokens=12)
        found = await of(desk)
        used = {one.limit.kind: (one.used, one.held, one.left) for one in found}
        assert (used["tpm"], used["parallel"], used["rpd"], used["budget"]) == ((12, 0, 88), (0, 0, 3), (3, 0, 2), (3, 0, 6))
        assert {one.limit.kind for one in found if one.resets_at} == {"rpd"}

    with_lease(work())


def test_what_a_reset_forgave_is_not_spent() -> None:
    forgiving = limit("budget", 150, "k1", forgiven=50)
    (key,) = with_lease(of(Desk(forgiving, books=Books({"k1": 70}))))
    assert (key.spent, key.left, key.limit.shown_value) == (20, 80, 100)
    (key,) = with_lease(of(Desk(forgiving, books=Books({"k1": 30}))))
    assert key.spent == 0
