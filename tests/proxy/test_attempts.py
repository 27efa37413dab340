"""Deployments tried in turn: which failure leads to the next, what is written down of each, and what is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import pytest

from proxy import attempts
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed, BadRequest, Kind, ProviderFailed, ProviderOverloaded, ProviderTimeout, ProxyError
from proxy.exchange import Whole
from proxy.providers.base import Timeouts
from tests.proxy.calls import deployment, plan, planned_call
from tests.proxy.conftest import Run
from tests.upstream import DONE, HANG, HTML, RESET, Script, Upstream, answer, frames, refuse, stream


def at(upstream: Upstream, number: int, **fields: Any) -> Deployment:
    """The `number`th deployment, at the scripted provider, which a busy machine may keep from answering at once."""
    found = deployment(provider=f"provider-{number}", id=number, model=f"model-{number}", **fields)
    target = msgspec.structs.replace(found.target, base_url=upstream.url, timeouts=Timeouts(first_byte=1.5, idle=1.5))
    return msgspec.structs.replace(found, target=target)


def whole(run: Run, upstream: Upstream, *, count: int = 3) -> tuple[Call, Whole]:
    call = planned_call(*(at(upstream, number) for number in range(1, count + 1)))
    return call, run(attempts.whole_answer(call, call.planned))


def failed(run: Run, upstream: Upstream, *, count: int = 1, streamed: bool = False) -> tuple[Call, ProxyError]:
    call = planned_call(*(at(upstream, number) for number in range(1, count + 1)), stream=streamed)
    attempt = attempts.opened_stream if streamed else attempts.whole_answer
    with pytest.raises(ProxyError) as raised:
        run(attempt(call, call.planned))
    return call, raised.value


def told(call: Call) -> list[tuple[int, str, str, str, int | None]]:
    return [(entry.number, entry.provider, entry.status, entry.error, entry.http_status) for entry in call.attempts]


def test_the_first_that_answers_is_the_only_one_asked(run: Run, upstream: Upstream) -> None:
    call, found = whole(run, upstream)
    assert found.reply.text_length == len("Hello")
    assert told(call) == [(1, "provider-1", "ok", "", 200)]
    assert call.served_by is not None
    assert (call.served_by.target.provider_name, len(upstream.received)) == ("provider-1", 1)


@pytest.mark.parametrize(
    ("script", "kind", "status"),
    [
        (refuse(500), "status", 500),
        (refuse(503), "overloaded", 503),
        (refuse(429), "rate_limited", 429),
        (refuse(401), "auth", 401),
        (refuse(404), "bad_request", 404),
        (RESET, "broken", None),
        (HANG, "timeout", None),
        (HTML, "broken", 200),
        (Script(parts=(b"{}",)), "broken", None),
        (Script(parts=(b'{"error":{"message":"Later","code":429}}',)), "rate_limited", 429),
    ],
)
def test_what_another_may_do_better_is_tried_at_the_next(
    run: Run, upstream: Upstream, script: Script, kind: str, status: int | None
) -> None:
    upstream.then(script, answer("from the second"))
    call, found = whole(run, upstream)
    assert b"from the second" in found.body
    assert told(call) == [(1, "provider-1", "failed", kind, status), (2, "provider-2", "ok", "", 200)]
    assert call.served_by is not None
    assert call.served_by.id == 2
    assert [got.json["model"] for got in upstream.received] == ["model-1", "model-2"]


def without_key(one: Deployment) -> Deployment:
    return msgspec.structs.replace(one, target=msgspec.structs.replace(one.target, unset_variable="MAIN_KEY"))


def test_a_provider_whose_key_was_never_set_is_asked_for_nothing(run: Run, upstream: Upstream) -> None:
    call = planned_call(without_key(at(upstream, 1)))
    with pytest.raises(ProviderFailed) as raised:
        run(attempts.whole_answer(call, call.planned))

    unset = "The gateway has no key for the provider provider-1: the environment variable MAIN_KEY is not set."
    assert raised.value.message == unset
    assert (told(call), upstream.received) == ([(1, "provider-1", "failed", "auth", None)], [])


def test_another_that_has_its_key_answers_instead(run: Run, upstream: Upstream) -> None:
    call = planned_call(without_key(at(upstream, 1)), at(upstream, 2))
    run(attempts.whole_answer(call, call.planned))

    assert told(call) == [(1, "provider-1", "failed", "auth", None), (2, "provider-2", "ok", "", 200)]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_caller_must_change_is_told_at_once(run: Run, upstream: Upstream, status: int) -> None:
    upstream.then(refuse(status, "Too long.", code="context_length_exceeded"))
    call, error = failed(run, upstream, count=3)
    assert isinstance(error, BadRequest)
    assert (error.code, error.message) == ("context_length_exceeded", "Too long.")
    assert len(call.attempts) == len(upstream.received) == 1


@pytest.mark.parametrize(
    ("scripts", "kind"),
    [
        ((refuse(503), refuse(500)), ProviderFailed),
        ((refuse(500), refuse(503)), ProviderOverloaded),
        ((refuse(500), HANG), ProviderTimeout),
        ((refuse(500), refuse(401)), ProviderFailed),
    ],
)
def test_of_several_failures_the_last_is_told(
    run: Run, upstream: Upstream, scripts: Sequence[Script], kind: type[ProxyError]
) -> None:
    upstream.then(*scripts)
    call, error = failed(run, upstream, count=2)
    assert type(error) is kind
    assert [entry.number for entry in call.attempts] == [1, 2]
    assert {entry.status for entry in call.attempts} == {"failed"}


def test_a_wait_that_the_provider_asks_for_reaches_the_caller(run: Run, upstream: Upstream) -> None:
    upstream.then(refuse(429, headers={"retry-after": "7"}))
    _, error = failed(run, upstream)
    assert (error.status, error.retry_after) == (503, 7)


def test_without_a_deployment_it_says_so(run: Run) -> None:
    call = planned_call()
    nowhere = msgspec.structs.replace(plan(), deployments=())
    with pytest.raises(ProviderFailed, match="No deployment"):
        run(attempts.whole_answer(call, nowhere))
    assert call.attempts == []


@pytest.mark.parametrize(
    "script",
    [
        stream(b'data: {"error":{"message":"Busy","type":"overloaded_error"}}\n\n'),
        stream(b"data: <html>\n\n"),
        Script(parts=(b'{"error":{"message":"Busy","code":503}}',)),
        refuse(503),
        RESET,
    ],
    ids=["error event", "no json", "error body", "status", "reset"],
)
def test_a_stream_that_begins_with_a_failure_is_no_stream_yet(run: Run, upstream: Upstream, script: Script) -> None:
    upstream.then(script, stream(*frames("from the second")))

    async def work() -> tuple[Call, bytes]:
        call = planned_call(at(upstream, 1), at(upstream, 2), stream=True)
        opened = await attempts.opened_stream(call, call.planned)
        rest = b"".join([chunk async for chunk in opened.chunks])
        await opened.upstream.close()
        return call, b"".join(seen.raw for seen in opened.first) + rest

    call, received = run(work())
    assert received == b"".join(frames("from the second"))
    assert [entry.status for entry in call.attempts] == ["failed", "ok"]
    assert call.first_token is not None


def test_a_first_event_that_comes_in_pieces_is_waited_for(run: Run, upstream: Upstream) -> None:
    first, *rest = frames("x")
    upstream.then(stream(first[:5], 0.05, first[5:20], 0.05, first[20:], *rest))

    async def work() -> bytes:
        call = planned_call(at(upstream, 1), stream=True)
        opened = await attempts.opened_stream(call, call.planned)
        chunks = [chunk async for chunk in opened.chunks]
        await opened.upstream.close()
        return b"".join([*(seen.raw for seen in opened.first), *chunks])

    assert run(work()) == b"".join([first, *rest])


def test_a_stream_of_nothing_opens_and_is_found_broken_when_it_ends(run: Run, upstream: Upstream) -> None:
    """Comments are no answer yet, but keep the connection alive: nothing fails before the end."""
    upstream.then(stream(b": working\n\n", DONE))

    async def work() -> list[bytes]:
        call = planned_call(at(upstream, 1), stream=True)
        opened = await attempts.opened_stream(call, call.planned)
        await opened.upstream.close()
        return [seen.raw for seen in opened.first]

    assert run(work())[0] == b": working\n\n"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cancelled_attempt_is_written_down_and_its_connection_closed(run: Run, upstream: Upstream, streamed: bool) -> None:
    upstream.then(HANG)

    async def work() -> Call:
        call = planned_call(at(upstream, 1), at(upstream, 2), stream=streamed)
        attempt = attempts.opened_stream if streamed else attempts.whole_answer
        task = asyncio.create_task(attempt(call, call.planned))
        while not upstream.received:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(upstream.received[0].gone.wait, 5)
        return call

    assert told(run(work())) == [(1, "provider-1", "cancelled", "", None)]
    assert len(upstream.received) == 1


def test_each_deployment_gets_the_request_in_its_own_words(run: Run, upstream: Upstream) -> None:
    upstream.then(refuse(500), answer())
    call = planned_call(at(upstream, 1), at(upstream, 2), temperature=0.5, tools=[{"type": "function"}])
    call.max_tokens = 77
    run(attempts.whole_answer(call, call.planned))
    first, second = (got.json for got in upstream.received)
    assert (first.pop("model"), second.pop("model")) == ("model-1", "model-2")
    assert first == second
    assert (first["max_tokens"], first["temperature"], first["tools"]) == (77, 0.5, [{"type": "function"}])
    assert "stream_options" not in first


def test_the_words_of_a_provider_are_not_kept(run: Run, upstream: Upstream) -> None:
    upstream.then(refuse(500, "the prompt was: my secret"))
    call, _ = failed(run, upstream)
    assert "secret" not in repr(msgspec.to_builtins(call.attempts))


def test_only_a_request_that_is_wrong_everywhere_stops_the_search() -> None:
    others = [kind for kind in get_args(Kind) if kind != "bad_request"]
    assert len(others) == 9
    assert all(AttemptFailed(kind, "x").retryable for kind in others)
    assert not AttemptFailed("bad_request", "x", status=400).retryable
    assert AttemptFailed("bad_request", "x", status=404).retryable
