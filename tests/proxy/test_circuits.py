"""What workers know together of deployments: circuits that open, are probed once and close, and moving averages.

Two boards are two workers. Time passes by moving what Redis remembers into the past.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway_project.lib import lifespan, redis
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed, Kind
from proxy.health import keys, overview
from proxy.health.board import Board
from proxy.health.reports import BUCKET_MS, BUCKETS
from tests.examples import some
from tests.proxy.calls import deployment

Work = Callable[[], Coroutine[Any, Any, None]]
_numbers = itertools.count(10**9)


def fresh(**fields: Any) -> Deployment:
    """A deployment that nobody knows anything of."""
    return deployment(id=next(_numbers), **{"circuit_breaker": True, **fields})


def on_a_loop(work: Work) -> None:
    async def alive() -> None:
        redis.scripts()  # closed last
        try:
            await work()
        finally:
            await lifespan.stop()

    asyncio.run(alive())


def failure(kind: Kind = "status", **fields: Any) -> AttemptFailed:
    return AttemptFailed(kind, "No.", **fields)


def pass_time(of: Deployment, *, seconds: float) -> None:
    """Moves what is remembered of a deployment into the past."""
    key, moved = keys.state(of.health_name), round(seconds * 1000)
    found: Any = redis.client().hgetall(key)
    state = {name.decode(): value.decode() for name, value in found.items()}
    past = {name: int(value) - moved for name, value in state.items() if name in ("opened", "till")}
    buckets = {name: value for name, value in state.items() if name[0] in "sf" and name[1:].isdigit()}
    if buckets:
        redis.client().hdel(key, *buckets)
    past |= {name[0] + str(int(name[1:]) - moved // BUCKET_MS): int(value) for name, value in buckets.items()}
    if past:
        redis.client().hset(key, mapping=past)


async def see(board: Board, of: Deployment, *outcomes: AttemptFailed | None, began_ago: float = 0.0) -> None:
    """Notes how attempts ended (None: well) and tells the others."""
    for outcome in outcomes:
        began = time.monotonic() - began_ago
        if outcome is None:
            board.succeeded(of, began=began)
        else:
            board.failed(of, outcome, began=began)
    await board.exchange()


async def read(board: Board, of: Deployment) -> str:
    board.health(of)
    await board.exchange()
    return board.circuit(of)


def test_a_circuit_opens_for_all_workers_when_most_attempts_fail() -> None:
    async def work() -> None:
        one, other, target = Board(), Board(), fresh()
        await see(one, target, *[failure()] * 2, None, None)
        await see(other, target, *[failure("timeout")] * 2)
        assert [await read(board, target) for board in (one, other)] == ["closed", "closed"]  # four of six, but too few
        await see(one, target, failure("connect"))
        assert [await read(board, target) for board in (one, other)] == ["open", "open"]
        known = other.health(target)
        assert (known.opened_by, known.last_error, known.attempts, known.failures) == ("connect", "connect", 7, 5)

    on_a_loop(work)


def test_it_stays_closed_while_most_attempts_succeed() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[None] * 10, *[failure()] * 9)
        assert await read(board, target) == "closed"
        assert board.health(target).error_rate == pytest.approx(9 / 19)
        await see(board, target, failure())
        assert await read(board, target) == "open"

    on_a_loop(work)


def test_failures_of_long_ago_do_not_count() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[failure()] * 4)
        pass_time(target, seconds=BUCKETS * BUCKET_MS / 1000)
        await see(board, target, failure())
        assert (await read(board, target), board.health(target).attempts) == ("closed", 1)

    on_a_loop(work)


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        (failure("rate_limited", status=429), (0, 5)),
        (failure("rate_limited", status=429, retry_after=42), (37, 42)),
        (failure("rate_limited", status=429, retry_after=86_400), (295, 300)),
        (failure("rate_limited", status=429, retry_after=0), (0, 1)),
        (failure("auth", status=401), (25, 30)),
    ],
)
def test_some_failures_open_it_at_once_and_for_as_long_as_the_provider_asks(
    seen: AttemptFailed, seconds: tuple[float, float]
) -> None:
    async def work() -> None:
        one, other, target = Board(), Board(), fresh()
        one.failed(target, seen, began=time.monotonic())
        assert one.circuit(target) == "open"  # before anybody was told
        await one.exchange()
        other.health(target)
        await other.exchange()
        for board in (one, other):
            until = board.health(target).probe_at
            assert until is not None
            assert seconds[0] < until - time.monotonic() <= seconds[1]
            assert board.health(target).opened_by == seen.kind

    on_a_loop(work)


@pytest.mark.parametrize("seen", [failure("bad_request", status=400), failure("bad_request", status=404)])
def test_what_the_caller_must_change_says_nothing_about_a_deployment(seen: AttemptFailed) -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[seen] * 20)
        assert (await read(board, target), board.health(target).attempts) == ("closed", 0)

    on_a_loop(work)


def test_a_name_that_the_provider_does_not_know_is_ours() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[failure("bad_request", status=404, code="model_not_found")] * 5)
        assert await read(board, target) == "open"

    on_a_loop(work)


def test_after_its_pause_one_call_of_all_workers_probes() -> None:
    async def work() -> None:
        one, other, target = Board(), Board(), fresh()
        await see(one, target, *[failure()] * 5)
        pass_time(target, seconds=5)
        assert [await read(board, target) for board in (one, other)] == ["half-open", "half-open"]
        won = [await board.takes_probe(target) for board in (other, one, other, one)]
        assert won == [True, False, False, False]

    on_a_loop(work)


def test_a_probe_that_succeeds_closes_the_circuit_and_the_next_failure_does_not_open_it_again() -> None:
    async def work() -> None:
        one, other, target = Board(), Board(), fresh()
        await see(one, target, *[failure()] * 5)
        pass_time(target, seconds=5)
        other.succeeded(target, began=time.monotonic())
        other.release(target)
        await other.exchange()
        await see(one, target, failure())
        assert [await read(board, target) for board in (one, other)] == ["closed", "closed"]
        assert one.health(target).attempts == 1
        assert redis.client().exists(keys.probe(target.health_name)) == 0

    on_a_loop(work)


def test_each_probe_that_fails_doubles_the_pause_up_to_two_minutes() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[failure()] * 5)
        pauses = []
        for _ in range(7):
            until = board.health(target).probe_at
            assert until is not None
            pauses.append(until - time.monotonic())
            pass_time(target, seconds=120)
            await see(board, target, failure())
        assert [5 * round(pause / 5) for pause in pauses] == [5, 10, 20, 40, 80, 120, 120]

    on_a_loop(work)


@pytest.mark.parametrize("outcome", [None, failure()])
def test_attempts_that_were_under_way_when_it_opened_say_nothing_of_now(outcome: AttemptFailed | None) -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[failure()] * 5)
        before = board.health(target).probe_at
        await see(board, target, outcome, began_ago=60)
        after = board.health(target).probe_at
        assert before is not None
        assert after == pytest.approx(before, abs=0.5)

    on_a_loop(work)


def test_a_call_that_had_nowhere_else_to_go_closes_an_open_circuit_but_never_lengthens_its_pause() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[failure()] * 5)
        before = board.health(target).probe_at
        await see(board, target, *[failure()] * 9)
        after = board.health(target).probe_at
        assert before is not None
        assert after == pytest.approx(before, abs=0.5)
        pass_time(target, seconds=1)
        await see(board, target, None)
        assert board.circuit(target) == "closed"

    on_a_loop(work)


def test_a_provider_that_asks_for_more_patience_gets_it() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[failure()] * 5)
        await see(board, target, failure("rate_limited", retry_after=60))
        until = board.health(target).probe_at
        assert until is not None
        assert until - time.monotonic() > 50

    on_a_loop(work)


def test_a_probe_that_never_tells_is_free_again_by_itself() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        assert await board.takes_probe(target)
        timeouts = target.target.timeouts
        left: Any = redis.client().pttl(keys.probe(target.health_name))
        assert 1000 * (timeouts.connect + timeouts.first_byte) < left <= 1000 * (timeouts.connect + timeouts.first_byte + 5)

    on_a_loop(work)


def test_a_probe_whose_caller_hung_up_is_free_at_once() -> None:
    async def work() -> None:
        one, other, target = Board(), Board(), fresh()
        assert await one.takes_probe(target)
        one.release(target)
        await one.exchange()
        assert await other.takes_probe(target)

    on_a_loop(work)


def test_without_a_circuit_breaker_nothing_opens_and_what_was_open_closes() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, failure("auth"))
        assert board.circuit(target) == "open"
        switched_off = deployment(id=target.id, circuit_breaker=False)
        await see(board, switched_off, *[failure("auth")] * 9)
        assert (board.circuit(switched_off), board.health(switched_off).probe_at) == ("closed", None)

    on_a_loop(work)


def test_averages_move_a_tenth_with_each_observation_and_are_shared() -> None:
    async def work() -> None:
        one, other, target = Board(), Board(), fresh()
        one.succeeded(target, began=0, first_token_ms=100)
        one.answered(target, tokens=100, seconds=1)
        await one.exchange()
        for _ in range(2):
            other.succeeded(target, began=0, first_token_ms=300)
        other.answered(target, tokens=50, seconds=1)
        other.answered(target, tokens=1, seconds=9)  # says nothing about speed
        await other.exchange()
        known = other.health(target)
        assert known.first_token_ms == pytest.approx(0.81 * 100 + 0.19 * 300, abs=0.01)
        assert known.tokens_per_second == pytest.approx(95, abs=0.01)

    on_a_loop(work)


def test_deciding_and_noting_wait_for_nobody_and_go_out_by_themselves() -> None:
    async def work() -> None:
        one, other, target = Board(), Board(), fresh()
        for _ in range(5):
            one.failed(target, failure(), began=time.monotonic())
        while redis.client().hlen(keys.state(target.health_name)) == 0:
            await asyncio.sleep(0.01)
        while other.circuit(target) != "open":  # asking is enough: what is not known yet is read behind the call
            await asyncio.sleep(0.01)

    on_a_loop(work)


def test_what_was_seen_last_is_told_at_an_orderly_end() -> None:
    target = fresh()

    async def work() -> None:
        Board().failed(target, failure(), began=time.monotonic())

    on_a_loop(work)
    assert overview.overview([target.health_name])[target.health_name].last_error == "status"


def test_a_redis_that_lost_everything_makes_every_deployment_healthy() -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, failure("auth"))
        redis.client().delete(keys.state(target.health_name))
        assert await read(board, target) == "closed"

    on_a_loop(work)


def test_a_redis_that_is_away_stops_nobody(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, failure("auth"))
        assert board.circuit(target) == "open"  # what this worker saw itself
        assert not await board.takes_probe(target)
        assert board.circuit(fresh()) == "closed"

    on_a_loop(work)


def test_the_overview_shows_what_the_workers_know() -> None:
    target, unknown = fresh(), fresh()

    async def work() -> None:
        board = Board()
        board.succeeded(target, began=0, first_token_ms=250)
        board.answered(target, tokens=80, seconds=2)
        await see(board, target, None, failure("overloaded"), failure("rate_limited", retry_after=30))

    on_a_loop(work)
    shown = overview.overview([target.health_name, unknown.health_name])
    one = shown[target.health_name]
    assert (one.circuit, one.opened_by, one.last_error, one.attempts, one.error_rate) == (
        "open", "rate_limited", "rate_limited", 4, 0.5,
    )  # fmt: skip
    assert (one.first_token_ms, one.tokens_per_second) == (250, 40)
    assert one.probe_at is not None
    assert one.last_error_at is not None
    assert 25 < (one.probe_at - one.last_error_at).total_seconds() <= 30
    assert shown[unknown.health_name] == overview.Availability()


EVENTS = st.lists(
    st.one_of(
        st.just(("ok", 0)),
        st.tuples(st.sampled_from(["status", "timeout", "rate_limited", "auth"]), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([10, 30, 130])),
    ),
    max_size=14,
)


@hypothesis_settings(max_examples=some(25), deadline=None)
@given(EVENTS)
def test_whatever_happens_the_circuit_is_what_the_rules_say(events: list[tuple[str, int]]) -> None:
    """Against the rules written down naively, one event at a time."""

    async def work() -> None:
        board, target = Board(), fresh()
        clock, opened, till, trips = 0.0, None, 0.0, 0
        window: list[tuple[float, bool]] = []
        for kind, wait in events:
            clock += wait or 0.02
            window = [(at, good) for at, good in window if at > clock - 25]
            if kind == "wait":
                pass_time(target, seconds=wait)
            elif kind == "ok":
                window.append((clock, True))
                await see(board, target, None)
                if opened is not None:
                    opened, trips, window = None, 0, []
            else:
                window.append((clock, False))
                await see(board, target, failure(kind))  # type: ignore[arg-type]
                failures = sum(not good for _, good in window)
                first = kind in ("rate_limited", "auth") or (failures >= 5 and failures * 2 >= len(window))
                if (opened is None and first) or (opened is not None and clock >= till):
                    opened, till = clock, clock + min(120, (30 if kind == "auth" else 5) * 2**trips)
                    trips += 1
            expected = "closed" if opened is None else "open" if clock < till else "half-open"
            assert await read(board, target) == expected

    on_a_loop(work)


def test_a_key_that_a_provider_refuses_is_told_to_the_operator_once_until_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        board, target = Board(), fresh()
        await see(board, target, *[failure("auth", status=401)] * 3)
        await see(board, fresh(), failure("status"))

    on_a_loop(work)
    assert caplog.text.count("provider.key_refused") == 1
