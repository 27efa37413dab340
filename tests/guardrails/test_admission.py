"""Admission on a real Valkey, against a ledger that each test writes by hand."""

import asyncio
from functools import wraps
from typing import Any

import pytest

from gateway_project.lib import ids, redis
from gateway_project.lib.money import NANO
from guardrails import admission, counters, loading
from guardrails.admission import Admitted, Refused, Stale
from guardrails.limits import Limits
from orgs import epoch
from tests.coroutines import with_lease
from tests.guardrails.books import DAY_MS, EPOCH, SUBJECTS, Books, Desk, budget, now_ms, rpm, settle

# $99,999.99 and $100,000.01: where Lua's own formatting of numbers changes. $9.1 million: beyond 2^53 nano-dollars.
EDGES = [99_999_990_000_000, 100_000_010_000_000, 9_100_000 * NANO, 9_100_000 * NANO + 1]


def on_a_worker(test: Any) -> Any:
    """Tests below are coroutines, each on a loop with Redis and a lease."""

    @wraps(test)
    def wrapped(*args: Any, **fixtures: Any) -> None:
        with_lease(test(*args, **fixtures))

    return wrapped


@on_a_worker
@pytest.mark.parametrize("limit", EDGES)
@pytest.mark.parametrize("amount", [1, 333, 12_345_678_901])
async def test_a_budget_is_exact_to_the_nano_dollar(limit: int, amount: int) -> None:
    desk = Desk(budget(limit), books=Books({"org": limit - amount}))
    held = await desk.admitted(amount)
    assert (held.amount_nano_usd, held.left_nano_usd) == (amount, 0)
    assert desk.held() == amount

    desk = Desk(budget(limit), books=Books({"org": limit - amount + 1}))
    refused = await desk.refused(amount)
    assert (refused.used, refused.held) == (limit - amount + 1, 0)


@on_a_worker
@pytest.mark.parametrize("limit", EDGES)
async def test_what_is_held_counts_to_the_nano_dollar(limit: int) -> None:
    desk = Desk(budget(limit))
    await desk.admitted(limit - 7)
    await desk.admitted(6)
    assert desk.held() == limit - 1

    refused = await desk.refused(2)
    assert (refused.used, refused.held) == (0, limit - 1)
    assert (await desk.admitted(1)).left_nano_usd == 0


@on_a_worker
@pytest.mark.parametrize("limit", EDGES)
async def test_one_call_may_cost_exactly_the_whole_budget(limit: int) -> None:
    desk = Desk(budget(limit))
    await desk.refused(limit + 1)
    held = await desk.admitted(limit)
    assert held.amount_nano_usd == limit
    assert desk.held() == limit

    await settle(held, limit)
    assert (desk.spent(), desk.held()) == (limit, 0)


@on_a_worker
@pytest.mark.parametrize("base", EDGES)
async def test_what_is_left_is_exact(base: int) -> None:
    held = await Desk(budget(base), books=Books({"org": 3})).admitted(4)
    assert held.left_nano_usd == base - 7


@on_a_worker
@pytest.mark.parametrize("base", EDGES)
@pytest.mark.parametrize("more", [1, 2, 7])
@pytest.mark.parametrize("narrow", ["k1", "org"])
async def test_of_two_budgets_the_one_with_less_room_counts_by_one_nano_dollar(base: int, more: int, narrow: str) -> None:
    """Though as doubles both may be the same."""
    wide = "org" if narrow == "k1" else "k1"
    desk = Desk(*(budget(base + (more if subject == wide else 0), subject) for subject in ("k1", "org")))
    held = await desk.admitted(4)
    assert held.tightest is not None
    assert (held.left_nano_usd, held.tightest.node) == (base - 4, narrow)


@on_a_worker
@pytest.mark.parametrize("before", EDGES)
async def test_a_window_subtracts_what_was_spent_before_it_exactly(before: int) -> None:
    starts = now_ms() - 1000
    books = Books({"org": before + 41}, {("org", starts): before})
    desk = Desk(budget(50, starts_ms=starts, ends_ms=starts + DAY_MS), books=books)

    refused = await desk.refused(10)
    assert refused.used == 41
    assert (await desk.admitted(9)).left_nano_usd == 0


@on_a_worker
@pytest.mark.parametrize("value", EDGES)
async def test_a_clamp_is_exact(value: int) -> None:
    desk = Desk(budget(value), books=Books({"org": value - 1001}))
    held = await desk.admitted(5000, least=1001)
    assert (held.amount_nano_usd, held.clamped, held.left_nano_usd) == (1001, True, 0)
    assert desk.held() == 1001


@on_a_worker
async def test_a_hold_counts_on_every_subject_of_the_path_limited_or_not() -> None:
    desk = Desk(budget(100, "g1"))
    call_id = ids.new_call_id()
    await desk.admitted(30, call_id=call_id)

    assert [desk.held(subject) for subject in SUBJECTS] == [30] * 5
    amount, own, state, _, _, tokens, live, worker, subjects, context = desk.holds()[str(call_id)].split("|")
    assert (amount, own, state, tokens, live, subjects, context) == ("30", "0", "r", "", "", "k1,m1,g1,org,pool", "{}")
    assert redis.client().exists(counters.worker(worker)) == 1
    assert str(desk.organization_id).encode() in redis.client().smembers(counters.ACTIVE_ORGANIZATIONS)


@on_a_worker
async def test_every_budget_on_the_path_must_allow_it() -> None:
    for subject in SUBJECTS:
        desk = Desk(*(budget(9 if name == subject else 10, name) for name in SUBJECTS))
        assert (await desk.refused(10)).limit.node == subject


@on_a_worker
async def test_the_budget_with_least_room_triggers_and_on_a_tie_the_most_specific() -> None:
    desk = Desk(budget(50, "k1"), budget(20, "m1"), budget(20, "org"), budget(30, "pool"))
    assert (await desk.refused(60)).limit.node == "m1"
    assert (await desk.admitted(10)).tightest == budget(20, "m1")


@on_a_worker
async def test_all_policies_of_one_subject_must_pass() -> None:
    starts = now_ms() - 1000
    day = budget(10, "k1", starts_ms=starts, ends_ms=starts + DAY_MS)
    desk = Desk(budget(100, "k1"), day, books=Books({"k1": 85}, {("k1", starts): 80}))

    refused = await desk.refused(6)
    assert (refused.limit, refused.used) == (day, 5)
    await desk.admitted(5)


@on_a_worker
async def test_a_refusal_changes_nothing() -> None:
    desk = Desk(budget(100), rpm(1))
    await desk.admitted(60)
    before = desk.everything()

    assert (await desk.refused(41)).limit.kind == "budget"
    assert (await desk.refused(1)).limit.kind == "rpm"
    assert (await desk.refused(500, least=41)).limit.kind == "budget"
    with pytest.raises(Stale):
        await desk.admit(1, epoch="another")
    assert desk.everything() == before


@on_a_worker
async def test_a_call_is_clamped_to_what_the_tightest_budget_affords_but_not_below_its_least() -> None:
    desk = Desk(budget(100, "k1"), budget(40, "org"))
    await desk.refused(200, least=41)
    assert desk.held() == 0
    held = await desk.admitted(200, least=40)
    assert (held.amount_nano_usd, held.clamped, held.tightest) == (40, True, budget(40, "org"))
    assert desk.held("k1") == 40


@on_a_worker
async def test_a_call_that_fits_is_not_clamped() -> None:
    held = await Desk(budget(100)).admitted(100, least=1)
    assert (held.amount_nano_usd, held.clamped) == (100, False)


@on_a_worker
async def test_a_budget_of_zero_lets_only_free_calls_pass() -> None:
    desk = Desk(budget(0))
    await desk.refused(1)
    free = await desk.admitted(0)
    assert (free.amount_nano_usd, free.left_nano_usd) == (0, 0)
    assert await settle(free, 0)
    assert (desk.spent(), desk.held(), desk.holds()) == (0, 0, {})


@on_a_worker
async def test_where_more_is_spent_than_allowed_not_even_a_free_call_passes() -> None:
    """A limit lowered below what was spent: nothing is admitted, nothing is clamped."""
    desk = Desk(budget(10), books=Books({"org": 11}))
    refused = await desk.refused(0, least=0)
    assert (refused.used, refused.held) == (11, 0)


@on_a_worker
async def test_raising_and_lowering_a_limit_keeps_what_was_spent() -> None:
    desk = Desk(budget(100))
    await settle(await desk.admitted(60), 60)
    desk.set(budget(59))
    assert (await desk.refused(0)).used == 60
    desk.set(budget(70))
    await desk.refused(11)
    await desk.admitted(10)


@on_a_worker
async def test_without_a_limit_everything_passes_and_counts() -> None:
    desk = Desk()
    held = await desk.admitted(5)
    assert (held.tightest, held.rate, held.left_nano_usd, held.rate_left) == (None, None, 0, 0)
    await settle(held, 4)
    assert desk.spent() == 4


@on_a_worker
async def test_requests_per_minute_are_counted_where_admitted_only() -> None:
    desk = Desk(rpm(3), budget(10))
    assert [(await desk.admitted(1)).rate_left for _ in range(3)] == [2, 1, 0]
    for _ in range(3):
        refused = await desk.refused(1)
    assert (refused.limit, refused.used, refused.held) == (rpm(3), 3, 0)
    assert 0 < refused.retry_after_ms <= 60_000

    desk.set(rpm(4), budget(3))
    assert (await desk.refused(1)).limit.kind == "budget"
    desk.set(rpm(4), budget(10))
    assert (await desk.admitted(1)).rate_left == 0


@on_a_worker
async def test_a_rate_of_zero_lets_nothing_pass() -> None:
    refused = await Desk(rpm(0)).refused(0)
    assert (refused.used, refused.retry_after_ms) == (0, 60_000)


@on_a_worker
async def test_two_rates_on_one_subject_count_each_call_once() -> None:
    desk = Desk(rpm(5), rpm(2))
    await desk.admitted(0)
    assert (await desk.admitted(0)).rate_left == 0
    assert (await desk.refused(0)).limit.value == 2


def rate_key(desk: Desk) -> str:
    return counters.rate(desk.organization_id, desk.token, "k1")


def requests_at(desk: Desk, seconds_ago: dict[int, int], *, pruned_ago: int) -> None:
    """The rate counter as calls of the past would have left it."""
    now = now_ms() // 1000
    seconds = {str(now - ago): count for ago, count in seconds_ago.items()}
    mapping: Any = {**seconds, "sum": sum(seconds_ago.values()), "pruned": now - pruned_ago}
    redis.client().hset(rate_key(desk), mapping=mapping)


@on_a_worker
async def test_a_minute_slides() -> None:
    """Two calls 62 seconds ago no longer count, the one of 50 seconds ago does, and tells when to come again."""
    desk = Desk(rpm(2))
    requests_at(desk, {62: 2, 50: 1}, pruned_ago=70)

    assert (await desk.admitted(0)).rate_left == 0
    refused = await desk.refused(0)
    assert refused.used == 2
    assert 8_000 <= refused.retry_after_ms <= 10_000
    fields = redis.client().hgetall(rate_key(desk))
    assert fields[b"sum"] == b"2"
    assert len(fields) == 4  # two seconds, the sum, how far it is pruned


@on_a_worker
async def test_after_two_quiet_minutes_the_count_begins_anew() -> None:
    desk = Desk(rpm(2))
    requests_at(desk, {200: 5}, pruned_ago=260)
    assert (await desk.admitted(0)).rate_left == 1
    assert 0 < redis.client().ttl(rate_key(desk)) <= 130


@on_a_worker
async def test_limits_of_another_epoch_are_stale() -> None:
    desk = Desk(budget(100))
    with pytest.raises(Stale) as caught:
        await desk.admit(1, epoch="older")
    assert caught.value.now is None
    redis.client().delete(epoch.keys(desk.organization_id)[0])
    with pytest.raises(Stale):
        await desk.admit(1)


@on_a_worker
async def test_a_change_whose_announcement_was_lost_makes_limits_stale_once_its_time_is_over() -> None:
    desk = Desk(budget(100))
    dirty = epoch.keys(desk.organization_id)[1]
    redis.client().hset(dirty, "young", now_ms() // 1000)
    await desk.admitted(1)

    redis.client().hset(dirty, "old", now_ms() // 1000 - epoch.TRANSACTION_LIMIT_SECONDS - 1)
    with pytest.raises(Stale):
        await desk.admit(1)
    fresh = (await epoch.read(desk.organization_id)).value
    assert fresh != EPOCH
    assert isinstance(await desk.admit(1, epoch=fresh), Admitted)


@on_a_worker
@pytest.mark.parametrize(("starts", "ends"), [(-2 * DAY_MS, 0), (-DAY_MS, -1), (60_000, DAY_MS)])
async def test_a_window_that_is_over_or_has_not_begun_must_be_compiled_again(starts: int, ends: int) -> None:
    now = now_ms()
    desk = Desk(budget(100, starts_ms=now + starts, ends_ms=now + ends))
    with pytest.raises(Stale) as caught:
        await desk.admit(1)
    assert caught.value.now is not None
    assert 0 <= caught.value.now.timestamp() * 1000 - now < 5000
    assert desk.holds() == {}


@on_a_worker
async def test_cold_counters_are_loaded_once_each_with_all_their_windows() -> None:
    day, month = now_ms() - 1000, now_ms() - 10 * DAY_MS
    desk = Desk(
        budget(100, "org", starts_ms=day, ends_ms=day + DAY_MS),
        budget(100, "org", starts_ms=month, ends_ms=day + DAY_MS),
        budget(100, "k1"),
        books=Books({"org": 70, "k1": 8}, {("org", day): 60, ("org", month): 20}),
    )
    for _ in range(3):
        await desk.admitted(1)

    assert dict(desk.books.asked) == {
        ("k1", ()): 1,
        ("m1", ()): 1,
        ("g1", ()): 1,
        ("org", (month, day)): 1,
        ("pool", ()): 1,
    }
    assert (desk.spent(), desk.spent("k1")) == (70, 8)


@on_a_worker
async def test_callers_who_meet_a_cold_counter_together_load_it_once() -> None:
    desk = Desk(budget(1000))
    held = await asyncio.gather(*(desk.admitted(1) for _ in range(50)))

    assert len({one.call_id for one in held}) == 50
    assert set(desk.books.asked.values()) == {1}
    assert desk.held() == 50


@on_a_worker
async def test_a_window_added_later_loads_its_baseline_alone() -> None:
    desk = Desk(budget(100), books=Books({"org": 30}))
    await settle(await desk.admitted(5), 5)
    starts = now_ms() - 1000
    desk.books.spent["org"], desk.books.before["org", starts] = 35, 30
    desk.books.snapshot = "1001:1001:"
    desk.books.asked.clear()

    desk.set(budget(10, starts_ms=starts, ends_ms=starts + DAY_MS))

    assert (await desk.refused(6)).used == 5
    assert dict(desk.books.asked) == {("org", (starts,)): 1}
    assert desk.spent() == 35


@on_a_worker
async def test_the_same_call_twice_holds_once() -> None:
    """A command that was sent again because its reply was lost."""
    desk = Desk(budget(100), rpm(5))
    call_id = ids.new_call_id()
    first = await desk.admitted(30, call_id=call_id)
    again = await desk.admitted(30, call_id=call_id)

    assert again.amount_nano_usd == first.amount_nano_usd == 30
    assert (desk.held(), len(desk.holds())) == (30, 1)
    assert redis.client().hget(rate_key(desk), "sum") == b"1"


@on_a_worker
async def test_a_call_that_was_given_up_is_never_admitted_late() -> None:
    desk = Desk(budget(100))
    call_id = ids.new_call_id()
    await admission.settle_hold(desk.organization_id, call_id, SUBJECTS)

    with pytest.raises(redis.RedisUnavailable):
        await desk.admit(1, call_id=call_id)
    assert desk.holds() == {}


@on_a_worker
async def test_settling_replaces_the_hold_by_what_was_charged_once() -> None:
    desk = Desk(budget(100))
    held = await desk.admitted(40)

    assert await settle(held, 13)
    assert not await settle(held, 13)

    assert (desk.spent(), desk.held(), desk.holds()) == (13, 0, {})
    assert 0 < redis.client().ttl(counters.tombstone(desk.organization_id, desk.token, held.call_id)) <= 300


@on_a_worker
async def test_what_own_provider_keys_cost_is_counted_apart_and_never_by_the_pool() -> None:
    desk = Desk(budget(100))
    held = await desk.admitted(40)
    await settle(held, 0, own=30)
    assert [desk.spent(subject) for subject in SUBJECTS] == [0] * 5
    assert [int(desk.counter(subject)["own"]) for subject in SUBJECTS] == [30, 30, 30, 30, 0]
    assert desk.held("pool") == 0


@on_a_worker
async def test_releasing_ends_a_hold_for_nothing() -> None:
    desk = Desk(budget(100))
    held = await desk.admitted(40)
    assert await admission.release(held)
    assert not await admission.release(held)
    assert not await settle(held, 40)
    assert (desk.spent(), desk.held(), desk.holds()) == (0, 0, {})


@on_a_worker
@pytest.mark.parametrize(
    ("snapshot", "transaction", "seen"),
    [
        ("1000:1000:", 999, True),
        ("1000:1000:", 1000, False),
        ("990:1000:990,995", 989, True),
        ("990:1000:990,995", 990, False),
        ("990:1000:990,995", 994, True),
        ("990:1000:990,995", 995, False),
        ("990:1000:990,995", 99, True),
        ("990:1000:990,995", 1000, False),
        ("4294967290:4294967300:4294967295", 4294967295, False),
        ("4294967290:4294967300:4294967295", 4294967296, True),
    ],
)
async def test_a_charge_is_added_exactly_if_the_counter_was_loaded_without_it(
    snapshot: str, transaction: int, seen: bool
) -> None:
    """Whether the hold is still known does not matter: the ledger's snapshot decides."""
    for forgotten in (False, True):
        books = Books({"org": 500})
        books.snapshot = snapshot
        desk = Desk(budget(1000), books=books)
        held = await desk.admitted(40)
        if forgotten:
            redis.client().delete(counters.holds(desk.organization_id, desk.token))
            for subject in SUBJECTS:
                redis.client().hset(counters.counter(desk.organization_id, desk.token, subject), "held", 0)

        await settle(held, 13, transaction_id=transaction)

        assert (desk.spent(), desk.held()) == (500 if seen else 513, 0)


@on_a_worker
async def test_a_counter_that_is_cold_again_learns_of_the_charge_from_the_ledger() -> None:
    desk = Desk(budget(100))
    held = await desk.admitted(40)
    redis.client().delete(
        counters.counter(desk.organization_id, desk.token, "org"), counters.holds(desk.organization_id, desk.token)
    )

    await settle(held, 13)
    assert set(desk.counter("org")) == {f"n:{held.call_id}"}  # noted for the load to come
    assert desk.spent("k1") == 13

    desk.books.spent["org"], desk.books.snapshot = 13, "1001:1001:"
    await desk.admitted(1)
    assert (desk.spent(), desk.held()) == (13, 1)


@on_a_worker
@pytest.mark.parametrize("transaction", [1000, 999])
async def test_a_row_recorded_before_a_window_and_settled_in_it_belongs_to_what_was_before(transaction: int) -> None:
    """Transaction 999 is in the snapshot of both figures, 1000 in neither: the window has spent nothing either way."""
    starts = now_ms() - 1000
    books = Books({"org": 80}, {("org", starts): 80})
    desk = Desk(budget(100, starts_ms=starts, ends_ms=starts + DAY_MS), books=books)
    held = await desk.admitted(40)

    await settle(held, 30, transaction_id=transaction, recorded_ms=starts - 1)

    assert (await desk.refused(101)).used == 0
    assert desk.spent() == (110 if transaction == 1000 else 80)


@on_a_worker
async def test_a_row_recorded_in_the_first_millisecond_of_a_window_counts_in_it() -> None:
    starts = now_ms() - 1000
    desk = Desk(budget(100, starts_ms=starts, ends_ms=starts + DAY_MS))
    await settle(await desk.admitted(40), 30, recorded_ms=starts)
    assert (await desk.refused(101)).used == 30


@on_a_worker
async def test_a_row_of_one_window_settled_in_the_next_is_before_the_next_alone() -> None:
    first, second = now_ms() - 5000, now_ms() - 1000
    desk = Desk(budget(100, starts_ms=first, ends_ms=first + DAY_MS), budget(100, starts_ms=second, ends_ms=second + DAY_MS))
    held = await desk.admitted(40)

    await settle(held, 30, recorded_ms=first)

    assert {name: value for name, value in desk.counter("org").items() if name.startswith("b:")} == {
        f"b:{first}": "0",
        f"b:{second}": "30",
    }


@on_a_worker
async def test_a_later_load_leaves_the_snapshot_of_what_was_spent() -> None:
    """Its figures were not taken: a row that only the later snapshot saw must still be added."""
    desk = Desk(budget(100))
    held = await desk.admitted(40)
    starts = now_ms() - 1000
    desk.books.spent["org"], desk.books.snapshot = 30, "1001:1001:"
    desk.set(budget(100, starts_ms=starts, ends_ms=starts + DAY_MS))
    await desk.admitted(1)

    await settle(held, 30, transaction_id=1000)

    assert desk.spent() == 30


@on_a_worker
async def test_a_call_held_across_the_end_of_a_window_counts_in_the_next() -> None:
    """It is held in both while it runs, and charged where its row is recorded."""
    first, second = now_ms() - 5000, now_ms() - 100
    desk = Desk(budget(100, starts_ms=first, ends_ms=first + DAY_MS))
    held = await desk.admitted(60)

    desk.set(budget(100, starts_ms=second, ends_ms=second + DAY_MS))

    assert (await desk.refused(41)).held == 60
    await settle(held, 50)
    assert (await desk.refused(51)).used == 50


@on_a_worker
async def test_baselines_are_kept_for_a_year_after_the_last_window() -> None:
    now = now_ms()
    old, last = now - 400 * DAY_MS, now - 1000
    desk = Desk(budget(100, starts_ms=old, ends_ms=now + DAY_MS))
    await desk.admitted(1)
    assert f"b:{old}" in desk.counter("org")

    desk.set(budget(100, starts_ms=last, ends_ms=now + DAY_MS))
    await desk.admitted(1)

    assert f"b:{last}" in desk.counter("org")
    assert f"b:{old}" not in desk.counter("org")
    assert f"s:{old}" not in desk.counter("org")


@on_a_worker
async def test_many_admissions_at_once_fill_a_budget_exactly() -> None:
    desk = Desk(budget(1000, "org"), budget(700, "k1"))
    outcomes = await asyncio.gather(*(desk.admit(10) for _ in range(150)))
    admitted = [outcome for outcome in outcomes if isinstance(outcome, Admitted)]
    assert len(admitted) == 70
    assert {outcome.limit.node for outcome in outcomes if isinstance(outcome, Refused)} == {"k1"}

    await asyncio.gather(*(settle(held, 3) for held in admitted))
    assert (desk.spent(), desk.held(), desk.holds()) == (210, 0, {})


def test_counters_of_an_organisation_share_one_slot_of_a_cluster() -> None:
    limits = Limits(12, "t", SUBJECTS, ())
    names = [
        *counters.counters(12, "t", SUBJECTS),
        counters.holds(12, "t"),
        counters.rate(12, "t", "k1"),
        counters.tombstone(12, "t", "x"),
    ]
    assert all("{12}" in name for name in [*names, *epoch.keys(limits.organization_id)])


@on_a_worker
async def test_a_call_that_settles_while_its_counter_is_loaded_is_counted_once() -> None:
    """The ledger is read, then a call commits and settles, then the figures arrive: they do not know of it."""
    desk = Desk(budget(NANO))
    held = await desk.admitted(100)
    redis.client().delete(counters.counter(desk.organization_id, desk.token, "org"))

    class Slow(Books):
        async def spend(self, **asked: Any) -> Any:
            read = await super().spend(**asked)
            await settle(held, 60, transaction_id=2_000_000)
            return read

    desk.books = Slow()
    again = await desk.admitted(7)

    assert desk.spent() == 60
    await settle(again, 7, transaction_id=2_000_001)
    assert (desk.spent(), desk.held()) == (67, 0)


@on_a_worker
async def test_a_row_of_the_window_before_that_settles_while_the_new_window_is_loaded_stays_there() -> None:
    """Midnight: the new day's baseline is being read while a call recorded before midnight settles."""
    start = now_ms() - 1000
    desk = Desk(budget(NANO))
    held = await desk.admitted(100)

    class Slow(Books):
        async def spend(self, **asked: Any) -> Any:
            read = await super().spend(**asked)
            await settle(held, 60, transaction_id=2_000_000, recorded_ms=start - 5)
            return read

    desk.books = Slow()
    desk.set(budget(NANO, starts_ms=start, ends_ms=start + DAY_MS))
    await desk.admitted(NANO)

    found = desk.counter("org")
    assert (found["spent"], found[f"b:{start}"]) == ("60", "60")
    assert not [field for field in found if field.startswith("n:") or field == "loading"]


@on_a_worker
async def test_an_unloaded_counter_is_read_from_the_ledger_again_and_keeps_what_is_held() -> None:
    desk = Desk(budget(NANO), books=Books({"org": 10}))
    await desk.admitted(100)
    assert (desk.spent(), desk.held()) == (10, 100)

    desk.books = Books({"org": 75})
    await loading.unload(desk.organization_id, ["org"])
    await desk.admitted(7)

    assert (desk.spent(), desk.held()) == (75, 107)


@on_a_worker
async def test_of_two_loads_at_once_the_first_to_finish_counts_and_the_other_asks_again() -> None:
    desk = Desk(budget(NANO))
    await desk.admitted(1)
    key = counters.counter(desk.organization_id, desk.token, "org")
    redis.client().delete(key)
    begin, load = (redis.client().register_script(script.source) for script in (loading.BEGIN_LOAD, loading.LOAD))
    (first,) = begin(keys=[key])
    (second,) = begin(keys=[key])
    assert first == second

    assert load(keys=[key], args=[second, 5, 0, "1:1:"]) == 1
    assert load(keys=[key], args=[first, 4, 0, "1:1:"]) == 0
    assert desk.spent() == 5
