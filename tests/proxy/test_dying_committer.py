"""The ledger's committer dies under calls: none hangs, none begins meanwhile, none holds anything when it is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest
from pytest_django import Settings

from billing import ledger
from billing.ledger import Row
from gateway_project import probes
from gateway_project.lib import tended
from guardrails import leases
from proxy import background, draining, recording, settling
from proxy.call import Call
from proxy.errors import GuardrailsUnavailable
from tests.billing.test_dying_committer import comes_true
from tests.coroutines import as_worker, kill
from tests.house import House
from tests.proxy.calls import admitted, body
from tests.proxy.test_pipeline import handled
from tests.upstream import Upstream, answer, frames, stream

CHARGED = 1234
COST = 10 * 1_000 + 2 * 4_000
SUBJECTS = ("org", "pool")


@pytest.fixture(autouse=True)
def own_spool(settings: Settings, tmp_path: Path) -> None:
    settings.SPOOL_FOLDER = tmp_path / "spool"


@pytest.fixture
def long_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as a test may look at what is refused meanwhile."""
    monkeypatch.setattr(tended, "FIRST_SECONDS", 3.0)


async def readiness() -> tuple[int, dict[str, Any]]:
    answered = await probes.readyz(HttpRequest())
    return answered.status_code, json.loads(answered.content)


async def drained() -> None:
    async with asyncio.timeout(10):
        while ledger.current().spool.rows:
            await draining.drain_own()
            await asyncio.sleep(0.01)
    await background.drain()


def finished(call: Call, **fields: Any) -> Row:
    row = recording.cancelled(call)
    row.charged_nano_usd = row.list_nano_usd = CHARGED
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def assert_settled(house: House, *, charged: int) -> None:
    assert house.nothing_held()
    assert sum(row.charged_nano_usd for row in house.rows()) == charged
    for subject in (*SUBJECTS, f"k{house.key.pk}"):
        assert house.counter(subject) == {"spent": charged, "held": 0}, subject


def test_while_it_is_dead_a_call_is_refused_before_anything_is_held_or_asked(
    house: House, upstream: Upstream, long_dead: None
) -> None:
    async def work() -> None:
        await handled(house, body())
        upstream.received.clear()
        kill("ledger committer")
        await asyncio.sleep(0)

        with pytest.raises(GuardrailsUnavailable, match="cannot be recorded"):
            await handled(house, body())
        with pytest.raises(GuardrailsUnavailable, match="cannot be recorded"):
            await handled(house, body(stream=True))
        assert await readiness() == (
            503,
            {"status": "unavailable", "postgres": "ok", "redis": "ok", "ledger": "unavailable"},
        )
        assert (upstream.received, await asyncio.to_thread(house.held)) == ([], {})

        await comes_true(ledger.takes_calls)
        await handled(house, body())
        assert await readiness() == (200, {"status": "ok", "postgres": "ok", "redis": "ok"})

    as_worker(work())

    assert [row.status for row in house.rows()] == ["ok", "refused", "refused", "ok"]
    assert_settled(house, charged=2 * COST)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_that_the_provider_is_answering_meanwhile_gets_its_answer_and_its_row(
    house: House, upstream: Upstream, streamed: bool
) -> None:
    first, *rest = frames("Hel", "lo")
    upstream.then(stream(first, 0.3, *rest) if streamed else answer("Hello", before=0.3))

    async def work() -> bytes:
        calling = asyncio.create_task(handled(house, body(stream=streamed)))
        await comes_true(lambda: bool(upstream.received))
        assert kill("ledger committer")
        _, content = await calling
        await drained()
        return content

    content: bytes = as_worker(work())

    assert b"[DONE]" in content if streamed else b"Hello" in content
    assert [row.status for row in house.rows()] == ["ok"]
    assert_settled(house, charged=COST)


Closing = Callable[[Call, Row], Coroutine[Any, Any, None]]


async def waited_for(call: Call, row: Row) -> None:
    await settling.close(call, row)


async def by_nobody(call: Call, row: Row) -> None:
    settling.close_later(call, row)
    await asyncio.sleep(0)


@pytest.mark.parametrize("close", [waited_for, by_nobody])
def test_calls_that_end_as_it_dies_are_settled_once_and_the_one_it_died_of_is_free(house: House, close: Closing) -> None:
    async def work() -> None:
        deadly, *others = [await admitted(house) for _ in range(4)]
        rows = [finished(deadly, decision={"limit": object()}), *map(finished, others)]
        async with asyncio.timeout(20):
            ended = await asyncio.gather(*map(close, [deadly, *others], rows), return_exceptions=True)
            refused, *answered = ended
            assert isinstance(refused, GuardrailsUnavailable) or close is by_nobody
            assert answered == [None] * 3
            await background.drain()
            await drained()

    as_worker(work())

    assert len(house.rows()) == 3
    assert_settled(house, charged=3 * CHARGED)


def test_without_the_one_that_drains_rows_would_never_come_home(house: House) -> None:
    """Both die: the committer leaves a row in the spool, and another brings it into the ledger."""

    async def work() -> None:
        call = await admitted(house)
        kill("spool draining")
        closing = asyncio.create_task(settling.close(call, finished(call)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        kill("ledger committer")
        await closing
        await comes_true(lambda: not ledger.current().spool.rows)

    as_worker(work())

    assert_settled(house, charged=CHARGED)


def test_a_lease_that_nobody_renews_any_more_is_renewed_again(house: House) -> None:
    async def work() -> None:
        kill("lease")
        died_at = leases.current().renewed_at
        await comes_true(lambda: leases.current().renewed_at > died_at)

    as_worker(work())
