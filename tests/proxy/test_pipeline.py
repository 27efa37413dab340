"""A call from top to bottom in one worker: what it follows, what it leaves behind, and what it is told where it cannot run."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from billing import prices
from billing.pricing import Rates
from gateway_project.lib import redis
from gateway_project.lib.money import NANO
from guardrails import leases
from orgs import epoch
from orgs.services.keys import disable_key
from proxy import callers, deployments, pipeline, recording, settling, startup
from proxy.call import Call
from proxy.errors import (
    BadRequest,
    BudgetExceeded,
    GuardrailsUnavailable,
    InvalidApiKey,
    KeyDisabled,
    ModelNotFound,
    ModelUnpriced,
    ProviderFailed,
    ProviderTimeout,
    ProxyError,
)
from proxy.models import Deployment, Model, Provider
from proxy.protocols import chat_completions
from proxy.providers import transport
from tests.coroutines import as_worker
from tests.house import House, eventually
from tests.proxy.calls import body
from tests.upstream import HANG, Upstream, answer, frames, refuse, stream


async def handled(house: House, request: bytes, *, feature: str = "", key: str | None = None) -> tuple[dict[str, str], bytes]:
    """Headers and the whole body, streamed or not."""
    try:
        found = await pipeline.handle(
            pipeline.Incoming(request, f"Bearer {key or house.key_text}", feature, "127.0.0.1", {}), codec=chat_completions
        )
        content = found.body if isinstance(found.body, bytes) else b"".join([item async for item in found.body])
        return found.headers, content
    finally:
        await transport.shutdown()


def ask(house: House, **members: Any) -> tuple[dict[str, str], bytes]:
    result: tuple[dict[str, str], bytes] = as_worker(handled(house, body(**members)))
    return result


def refused(house: House, kind: type[ProxyError], request: bytes | None = None, **members: Any) -> ProxyError:
    with pytest.raises(kind) as raised:
        as_worker(handled(house, request if request is not None else body(**members)))
    return raised.value


def test_a_whole_answer_passes_byte_for_byte_and_is_charged_before_it_is_given(house: House, upstream: Upstream) -> None:
    upstream.then(answer("Hi  there", usage=(100, 20)))
    headers, content = ask(house)
    assert json.loads(content)["choices"][0]["message"]["content"] == "Hi  there"
    (row,) = house.rows()
    assert str(row.call_id) == headers["x-request-id"]
    assert (row.charged_nano_usd, headers["x-gatehouse-cost-usd"]) == (100 * 1_000 + 20 * 4_000, "0.00018")
    assert house.held() == {}


def test_a_stream_passes_and_is_charged(house: House, upstream: Upstream) -> None:
    sent = frames("Hel", "lo")
    upstream.then(stream(*sent))
    headers, content = ask(house, stream=True, stream_options={"include_usage": True})
    assert content == b"".join(sent)
    assert headers["content-type"].startswith("text/event-stream")
    (row,) = house.rows()
    assert (row.streamed, row.first_token_ms is not None, row.charged_nano_usd) == (True, True, 18_000)


@pytest.mark.parametrize(
    ("members", "kind"), [({"model": "nope"}, ModelNotFound), ({"model": "unpriced"}, ModelUnpriced), ({"n": 0}, BadRequest)]
)
def test_what_cannot_run_reaches_no_provider_and_leaves_a_row_without_a_hold(
    house: House, upstream: Upstream, members: dict[str, Any], kind: type[ProxyError]
) -> None:
    error = refused(house, kind, **members)
    row = house.row_of(error.request_id or "")
    assert (row.status, row.charged_nano_usd, row.attempt_count) == ("refused", 0, 0)
    assert upstream.received == []
    assert house.held() == {}


def test_a_key_nobody_knows_leaves_no_row(house: House) -> None:
    for authorization in (None, "", "Basic x", "Bearer nonsense", "Bearer gh_sk_abcdefabcdef_" + "x" * 32):
        with pytest.raises(InvalidApiKey) as raised:
            as_worker(pipeline.handle(pipeline.Incoming(body(), authorization, "", "", {}), codec=chat_completions))
        assert raised.value.request_id is None
    assert house.rows() == []


@pytest.mark.parametrize(
    ("script", "kind"), [(refuse(500), ProviderFailed), (refuse(401), ProviderFailed), (HANG, ProviderTimeout)]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_provider_that_does_not_answer_costs_nothing(
    house: House, upstream: Upstream, script: Any, kind: type[ProxyError], streamed: bool
) -> None:
    upstream.on("impatient", script)
    error = refused(house, kind, model="impatient", stream=streamed)
    row = house.row_of(error.request_id or "")
    assert (row.status, row.charged_nano_usd, row.absorbed_nano_usd, row.attempt_count) == ("failed", 0, 0, 1)
    assert [attempt.status for attempt in house.attempts_of(error.request_id or "")] == ["failed"]
    assert house.held() == {}


def test_a_lowered_budget_is_followed_by_a_worker_that_had_cached_the_old_one(house: House, upstream: Upstream) -> None:
    """The admission script notices that the epoch has moved on; the call is planned again and refused by what is true now."""
    as_worker(callers.load(house.key_text))
    house.limit("budget", 1)
    error = refused(house, BudgetExceeded)
    assert (error.detail or {})["level"] == "key"
    assert upstream.received == []


def test_a_raised_budget_lets_through_what_the_old_one_refused(house: House) -> None:
    limit = house.limit("budget", 1)
    refused(house, BudgetExceeded)
    with transaction.atomic():
        limit.value = NANO
        limit.save()
        epoch.changing(house.organization.pk)
    headers, _ = ask(house)
    assert headers["x-gatehouse-budget"] == "key Mia's key month"


@pytest.mark.parametrize("request_body", [body(), body(model="nope"), b"{"], ids=["sound", "no model", "no json"])
def test_a_key_disabled_since_it_was_cached_is_refused_as_such_whatever_is_wrong_besides(
    house: House, upstream: Upstream, request_body: bytes
) -> None:
    as_worker(callers.load(house.key_text))
    disable_key(house.key, by=house.world.actor("alice"))
    refused(house, KeyDisabled, request_body)
    assert upstream.received == []


def test_a_model_declared_a_moment_ago_can_be_called(house: House, upstream: Upstream) -> None:
    as_worker(deployments.refreshed())
    name = f"fresh-{house.organization.slug}"
    with transaction.atomic():
        model = Model.objects.create(name=name, max_output_tokens=100)
        Deployment.objects.create(model=model, provider=Provider.objects.get(name="scripted"), upstream_model="fresh")
        prices.declare(f"model:{name}", rates=Rates(input=NANO, output=NANO), source="test")
        epoch.catalogue_changing([house.organization.pk])
    headers, _ = ask(house, model=name)
    assert headers["x-gatehouse-model"] == name
    assert upstream.received[-1].json["model"] == "fresh"


def test_settings_that_never_stop_changing_are_not_followed_for_ever(house: House) -> None:
    """While a change is under way every reading is stale at once; after some rounds the call gives up, with nothing held."""

    async def work() -> None:
        caller = await callers.load(house.key_text)
        stop = asyncio.Event()

        async def keep_changing() -> None:
            while not stop.is_set():
                await asyncio.to_thread(_touch, house.organization.pk)

        changing = asyncio.create_task(keep_changing())
        try:
            for _ in range(5):
                call = Call("chat_completions", caller)
                call.request = chat_completions.parse(body())
                try:
                    await pipeline.admit(call)
                except GuardrailsUnavailable:
                    assert call.held is None
                else:
                    assert call.held is not None
                    await settling.close(call, recording.cancelled(call))
        finally:
            stop.set()
            await changing

    as_worker(work())
    assert house.nothing_held()


def _touch(organization_id: int) -> None:
    redis.client().set(epoch.keys(organization_id)[0], secrets.token_hex(8))


def test_a_caller_who_leaves_during_a_whole_answer_is_not_charged_and_the_provider_is_stopped(
    house: House, upstream: Upstream
) -> None:
    upstream.on("scripted", answer(before=20))

    async def work() -> None:
        task = asyncio.create_task(handled(house, body()))
        while not upstream.received:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(upstream.received[-1].gone.wait, 5)

    as_worker(work())
    (row,) = eventually(house.rows)
    assert (row.status, row.http_status, row.charged_nano_usd) == ("cancelled", 499, 0)
    assert house.held() == {}


def test_calls_beside_each_other_keep_their_own_answers(house: House, upstream: Upstream) -> None:
    async def work() -> list[tuple[dict[str, str], bytes]]:
        async def one(stream_it: bool) -> tuple[dict[str, str], bytes]:
            found = await pipeline.handle(
                pipeline.Incoming(body(stream=stream_it), f"Bearer {house.key_text}", "", "", {}), codec=chat_completions
            )
            content = found.body if isinstance(found.body, bytes) else b"".join([item async for item in found.body])
            return found.headers, content

        try:
            return await asyncio.gather(*(one(number % 2 == 0) for number in range(20)))
        finally:
            await transport.shutdown()

    answers = as_worker(work())
    ids = {UUID(headers["x-request-id"]) for headers, _ in answers}
    assert len(ids) == 20
    assert {row.call_id for row in house.rows()} == ids
    assert [content.startswith(b"data:") for _, content in answers] == [number % 2 == 0 for number in range(20)]
    assert house.held() == {}


def test_a_worker_starts_once_however_often_it_is_asked(house: House) -> None:
    async def work() -> tuple[str, str]:
        first = leases.worker_id()
        await asyncio.gather(*(startup.ensure() for _ in range(5)))
        return first, leases.worker_id()

    first, later = as_worker(work())
    assert first == later
