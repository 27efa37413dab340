"""Which deployment is tried next: probes, quotas, prompts that are too long, and never a call refused for a circuit alone."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import msgspec
import pytest

from gateway_project.lib import lifespan, redis
from proxy import attempts, measuring, recording
from proxy.call import Call
from proxy.canonical.usage import Usage
from proxy.deployments import Deployment
from proxy.errors import TOO_LONG, AttemptFailed, BadRequest, ProviderFailed, ProviderOverloaded, ProviderTimeout
from proxy.health import board, keys, overview, reports
from proxy.health.overview import Availability
from proxy.providers import transport
from proxy.providers.base import Timeouts
from proxy.turns import Turns
from tests.proxy.calls import deployment, plan, planned_call
from tests.proxy.test_circuits import failure
from tests.upstream import HANG, RESET, Script, Upstream, answer, frames, refuse, stream

_numbers = itertools.count(2 * 10**9)


def at(upstream: Upstream, model: str, **fields: Any) -> Deployment:
    """A deployment at the scripted provider that nobody knows anything of."""
    found = deployment(id=next(_numbers), model=model, **{"circuit_breaker": True, **fields})
    target = msgspec.structs.replace(found.target, base_url=upstream.url, timeouts=Timeouts(first_byte=30, idle=30))
    return msgspec.structs.replace(found, target=target)


def on_a_loop(work: Any) -> Any:
    async def alive() -> Any:
        redis.scripts()  # closed last
        try:
            return await work
        finally:
            await lifespan.stop()
            await transport.shutdown()

    return asyncio.run(alive())


def tried(call: Call) -> list[tuple[str, str, str]]:
    return [(entry.model, entry.status, entry.error) for entry in call.attempts]


async def known(*deployments: Deployment) -> None:
    for one in deployments:
        board.current().health(one)
    await board.current().exchange()


async def opened(one: Deployment, *, half: bool = False) -> None:
    """Its circuit is open; with `half`, its pause is over."""
    board.current().failed(one, failure("auth"), began=time.monotonic())
    await board.current().exchange()
    if half:
        redis.client().hset(keys.state(one.health_name), mapping={"opened": 1, "till": 2})
        await known(one)


def of(one: Deployment) -> Availability:
    return overview.overview([one.health_name])[one.health_name]


def test_a_half_open_one_is_tried_in_its_turn_by_one_call_only_and_closes_when_it_answers(upstream: Upstream) -> None:
    first, second = at(upstream, "first"), at(upstream, "second")
    upstream.on("first", answer(before=0.5))

    async def work() -> list[Call]:
        await opened(first, half=True)
        calls = [planned_call(first, second) for _ in range(4)]
        await asyncio.gather(*(attempts.whole_answer(call, call.planned) for call in calls))
        return calls

    models = sorted(tried(call)[0][0] for call in on_a_loop(work()))
    assert models == ["first", "second", "second", "second"]
    assert of(first).circuit == "closed"


def test_a_probe_that_fails_costs_its_caller_nothing_but_time_and_opens_it_again(upstream: Upstream) -> None:
    first, second = at(upstream, "first"), at(upstream, "second")
    upstream.on("first", RESET)

    async def work() -> Call:
        await opened(first, half=True)
        call = planned_call(first, second)
        await attempts.whole_answer(call, call.planned)
        return call

    assert tried(on_a_loop(work())) == [("first", "failed", "broken"), ("second", "ok", "")]
    assert of(first).circuit == "open"


def test_a_call_that_has_nothing_else_tries_what_another_probes(upstream: Upstream) -> None:
    first, second = at(upstream, "first"), at(upstream, "second")
    upstream.on("second", refuse(500))

    async def work() -> Call:
        await opened(first, half=True)
        redis.client().set(keys.probe(first.health_name), "1", ex=60)
        call = planned_call(first, second)
        await attempts.whole_answer(call, call.planned)
        return call

    assert tried(on_a_loop(work())) == [("second", "failed", "status"), ("first", "ok", "")]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_probe_whose_caller_hangs_up_is_free_again_and_says_nothing(upstream: Upstream, streamed: bool) -> None:
    first = at(upstream, "first")
    upstream.on("first", HANG)

    async def work() -> None:
        await opened(first, half=True)
        call = planned_call(first, stream=streamed)
        attempt = attempts.opened_stream if streamed else attempts.whole_answer
        task = asyncio.create_task(attempt(call, call.planned))
        while not upstream.received:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    on_a_loop(work())
    assert (of(first).circuit, of(first).attempts) == ("half-open", 1)
    assert not redis.client().exists(keys.probe(first.health_name))


def test_an_open_circuit_alone_refuses_nobody(upstream: Upstream) -> None:
    only = at(upstream, "only")

    async def work() -> Call:
        await opened(only)
        call = planned_call(only)
        await attempts.whole_answer(call, call.planned)
        return call

    assert tried(on_a_loop(work())) == [("only", "ok", "")]
    assert of(only).circuit == "closed"


def test_one_whose_minute_is_used_up_is_passed_over_and_written_down(upstream: Upstream) -> None:
    first, second = at(upstream, "first", rpm=1), at(upstream, "second")

    async def work() -> list[Call]:
        calls = [planned_call(first, second) for _ in range(2)]
        for call in calls:
            await attempts.whole_answer(call, call.planned)
        return calls

    one, other = on_a_loop(work())
    assert tried(one) == [("first", "ok", "")]
    assert tried(other) == [("first", "skipped", "quota"), ("second", "ok", "")]
    assert (other.tries, other.route_reason, [entry.number for entry in other.attempts]) == (1, "fallback", [1, 2])


def test_where_every_minute_is_used_up_the_caller_is_told_when_to_come_back(upstream: Upstream) -> None:
    first, second = at(upstream, "first", rpm=1), at(upstream, "second", tpm=100)

    async def work() -> Call:
        for _ in range(2):
            call = planned_call(first, second)
            await attempts.whole_answer(call, call.planned)
        call = planned_call(first, second)
        with pytest.raises(ProviderOverloaded, match="used up") as raised:
            await attempts.whole_answer(call, call.planned)
        assert raised.value.retry_after is not None
        assert 30 < raised.value.retry_after <= 60
        return call

    assert tried(on_a_loop(work())) == [("first", "skipped", "quota"), ("second", "skipped", "quota")]
    assert len(upstream.received) == 2


def test_a_full_minute_gives_the_probe_back(upstream: Upstream) -> None:
    first = at(upstream, "first", rpm=1)

    async def work() -> None:
        call = planned_call(first)
        await attempts.whole_answer(call, call.planned)
        await opened(first, half=True)
        again = planned_call(first)
        with pytest.raises(ProviderOverloaded):
            await attempts.whole_answer(again, again.planned)

    on_a_loop(work())
    assert not redis.client().exists(keys.probe(first.health_name))


def test_tokens_are_counted_as_they_were_used_and_those_of_a_failure_given_back(upstream: Upstream) -> None:
    first, second = at(upstream, "first", tpm=1000), at(upstream, "second", tpm=1000)
    upstream.on("first", refuse(500))

    async def work() -> None:
        call = planned_call(first, second)
        await attempts.whole_answer(call, call.planned)
        row = recording.completed(call, Usage(input_uncached=30, output=12), text_length=9, finish_reason="stop", has_output=True)
        measuring.over(call, row)
        measuring.over(call, row)
        await known(first, second)

    on_a_loop(work())
    assert (of(first).used_tokens, of(second).used_tokens) == (0, 42)


@pytest.mark.parametrize(
    ("refusal", "window", "estimate"),
    [(refuse(400, code=TOO_LONG), None, 10), (refuse(400, code=TOO_LONG), 1000, 10), (refuse(413), 1000, 1001)],
)
def test_a_prompt_that_was_too_long_goes_to_a_model_with_a_larger_window(
    upstream: Upstream, refusal: Script, window: int | None, estimate: int
) -> None:
    small, again = (at(upstream, name, context_window=window) for name in ("small", "again"))
    as_small = at(upstream, "as-small", offered="other", context_window=window or 0)
    large = at(upstream, "large", offered="large", context_window=200_000)
    for name in ("small", "again", "as-small"):
        upstream.on(name, refusal)

    async def work() -> Call:
        call = planned_call(small, again, *([as_small] if window else []), large)
        call.request = msgspec.structs.replace(call.asked, input_tokens_estimate=estimate)
        await attempts.whole_answer(call, call.planned)
        return call

    call = on_a_loop(work())
    assert tried(call) == [("small", "failed", "bad_request"), ("large", "ok", "")]
    assert (call.served_model, call.route_reason) == ("large", "fallback")
    assert of(small).attempts == 0  # the prompt's fault


def test_where_no_window_is_larger_the_refusal_is_told(upstream: Upstream) -> None:
    upstream.then(refuse(400, "Too long.", code=TOO_LONG))
    call = planned_call(at(upstream, "a"), at(upstream, "b"))
    with pytest.raises(BadRequest, match="Too long"):
        on_a_loop(attempts.whole_answer(call, call.planned))
    assert len(call.attempts) == 1


def test_another_models_own_maximum_bounds_what_it_is_asked_for(upstream: Upstream) -> None:
    """4,096 tokens are what is reserved (tests/proxy/calls.py), whatever the other model would write by itself."""
    own = at(upstream, "own")
    smaller = at(upstream, "smaller", offered="smaller", max_output_tokens=512)
    larger = at(upstream, "larger", offered="larger", max_output_tokens=64_000)
    for name in ("own", "smaller"):
        upstream.on(name, refuse(500))
    call = planned_call(own, smaller, larger)
    on_a_loop(attempts.whole_answer(call, call.planned))
    assert [got.json.get("max_tokens") for got in upstream.received] == [None, 512, 4096]
    call.max_tokens = 100
    assert [call.cap_at(one) for one in (own, smaller, larger)] == [100, 100, 100]


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
def test_a_failure_tells_more_than_what_a_protocol_cannot_say(order: tuple[str, str]) -> None:
    turns, target = Turns(planned_call(), plan()), deployment()
    failures = {"first": failure("timeout"), "second": failure("untranslatable")}
    assert [turns.failed(failures[name], at=target) for name in order] == [True, True]
    assert isinstance(turns.error(), ProviderTimeout)
    assert not reports.counts(failures["second"])


def test_a_failure_tells_more_than_what_could_not_be_sent(upstream: Upstream) -> None:
    first, second = at(upstream, "first"), at(upstream, "second", rpm=1)
    upstream.on("first", refuse(500))

    async def work() -> None:
        await attempts.whole_answer(planned_call(second), planned_call(second).planned)
        call = planned_call(first, second)
        with pytest.raises(ProviderFailed):
            await attempts.whole_answer(call, call.planned)

    on_a_loop(work())


@pytest.mark.parametrize(("before", "counted"), [((), 1), ((refuse(500),), 0)])
def test_a_call_whose_whole_time_went_by_blames_its_only_attempt(
    upstream: Upstream, before: tuple[Script, ...], counted: int
) -> None:
    first, second = at(upstream, "first"), at(upstream, "second")
    upstream.then(*before, HANG)

    async def work() -> Call:
        call = planned_call(first, second)
        task = asyncio.create_task(attempts.whole_answer(call, call.planned))
        while len(upstream.received) <= len(before):
            await asyncio.sleep(0.005)
        task.cancel()  # as the bound on the whole call does
        with pytest.raises(asyncio.CancelledError):
            await task
        measuring.never_answered(call)
        await known(first, second)
        return call

    on_a_loop(work())
    hung = second if before else first
    assert (of(hung).attempts, of(hung).last_error) == (counted, "timeout" if counted else "")


def test_a_stream_tells_when_its_first_token_came_how_fast_the_rest_did_and_that_it_broke_off(upstream: Upstream) -> None:
    one = at(upstream, "one")
    upstream.on("one", stream(*frames("a", "b"), before=0.05))

    async def work() -> None:
        call = planned_call(one, stream=True)
        found = await attempts.opened_stream(call, call.planned)
        await found.upstream.close()
        row = recording.completed(call, Usage(output=50), text_length=9, finish_reason="stop", has_output=True)
        measuring.over(call, row)
        await known(one)
        assert (of(one).attempts, of(one).error_rate) == (1, 0)
        measuring.broke_off(call, AttemptFailed("broken", "It broke off."))
        await known(one)

    on_a_loop(work())
    seen = of(one)
    assert seen.first_token_ms is not None
    assert seen.first_token_ms >= 50
    assert seen.tokens_per_second is not None
    assert (seen.attempts, seen.error_rate, seen.last_error) == (2, 0.5, "broken")
