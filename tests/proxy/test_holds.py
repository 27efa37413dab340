"""What dead workers leave behind is closed from the ledger: exactly once, whoever does it, and no living call is touched."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from billing import ledger
from billing.ledger import Row
from gateway_project.lib import database, redis
from guardrails import admission, counters
from guardrails.admission import Admitted
from proxy import callers, holds, recording, settling, spend
from proxy.call import Call
from proxy.errors import GuardrailsUnavailable
from proxy.tasks import resolve_holds
from tests.billing import rows
from tests.coroutines import as_worker
from tests.house import House

AMOUNT = 5_000_000


async def admitted(house: House, *, amount: int = AMOUNT) -> Call:
    """A call as it stands after its admission."""
    call = Call("chat_completions", await callers.load(house.key_text))
    outcome = await admission.admit(
        call.caller.limits,
        epoch=call.caller.epoch,
        call_id=call.id,
        amount=amount,
        least=None,
        tokens=0,
        may_degrade=False,
        context=msgspec.json.encode(recording.context(call)).decode(),
        source=spend.SOURCE,
    )
    assert isinstance(outcome, Admitted)
    call.held = outcome
    return call


def finished(call: Call, *, charged: int) -> Row:
    row = recording.cancelled(call)
    row.charged_nano_usd = row.list_nano_usd = charged
    return row


def left_behind(house: House, *, recorded: int | None = None, amount: int = AMOUNT) -> Call:
    """A call whose worker ended before it was settled; `recorded`: what its row charged, where it got that far."""

    async def work() -> Call:
        call = await admitted(house, amount=amount)
        if recorded is not None:
            await ledger.current().record(finished(call, charged=recorded), [])
        return call

    call: Call = as_worker(work())
    assert house.held()["org"] >= amount
    return call


def test_a_call_that_was_never_recorded_is_closed_for_nothing(house: House) -> None:
    call = left_behind(house)

    assert resolve_holds() == 1

    assert house.held() == {}
    (row,) = house.rows()
    assert (row.call_id, row.status, row.http_status) == (call.id, "abandoned", 500)
    assert (row.charged_nano_usd, row.list_nano_usd, row.reserved_nano_usd) == (0, 0, AMOUNT)
    world = house.world
    assert [row.group0_id, row.group1_id, row.group2_id, row.group3_id, row.group4_id] == [
        world.root.pk,
        world.engineering.pk,
        world.platform.pk,
        world.gateway.pk,
        None,
    ]
    assert (row.member_id, row.api_key_id, row.protocol) == (world.mia.pk, house.key.pk, "chat_completions")
    assert row.admitted_at == call.began_at
    assert house.counter("org") == {"spent": 0, "held": 0}


def test_a_call_that_was_recorded_is_settled_with_its_figures_once(house: House) -> None:
    left_behind(house, recorded=1234)

    assert resolve_holds() == 1
    assert resolve_holds() == 0

    (row,) = house.rows()
    assert (row.status, row.charged_nano_usd) == ("cancelled", 1234)
    for subject in ("org", "pool", f"k{house.key.pk}", f"m{house.world.mia.pk}", f"g{house.world.gateway.pk}"):
        assert house.counter(subject) == {"spent": 1234, "held": 0}, subject


def test_a_free_call_is_closed_too(house: House) -> None:
    async def work() -> None:
        await admitted(house, amount=0)

    as_worker(work())
    assert len(house.held()) == 1

    assert resolve_holds() == 1
    assert house.held() == {}


@pytest.mark.parametrize("recorded", [None, 1234])
def test_any_number_may_resolve_at_once(house: House, recorded: int | None) -> None:
    for _ in range(3):
        left_behind(house, recorded=recorded)

    async def work() -> list[int]:
        return await asyncio.gather(*(holds.resolve(house.organization.pk) for _ in range(5)))

    assert max(as_worker(work())) == 3

    assert house.held() == {}
    assert len(house.rows()) == 3
    assert house.counter("org") == {"spent": 3 * (recorded or 0), "held": 0}


def test_a_resolver_that_died_half_way_is_followed_by_another(house: House) -> None:
    """Its row stands, but the hold as well."""
    call = left_behind(house)
    rows.insert(house.organization.pk, call_id=call.id, status="abandoned")

    assert resolve_holds() == 1

    assert house.held() == {}
    assert len(house.rows()) == 1


def test_a_slow_worker_finds_its_call_closed_and_withholds_the_answer(house: House) -> None:
    call = left_behind(house)
    resolve_holds()

    async def work() -> None:
        with pytest.raises(GuardrailsUnavailable, match="abandoned"):
            await settling.close(call, finished(call, charged=1234))

    as_worker(work())

    (row,) = house.rows()
    assert (row.status, row.charged_nano_usd) == ("abandoned", 0)
    assert house.counter("org") == {"spent": 0, "held": 0}


def test_calls_of_living_workers_are_left_alone(house: House) -> None:
    dead = left_behind(house)

    async def work() -> Call:
        living = await admitted(house, amount=70)
        assert await holds.resolve(house.organization.pk) == 1
        assert house.counter("org") == {"spent": 0, "held": 70}
        assert redis.client().hlen(counters.holds(house.organization.pk, house.token)) == 1
        await settling.close(living, finished(living, charged=7))
        return living

    living = as_worker(work())

    assert house.held() == {}
    assert {row_status(house, dead), row_status(house, living)} == {"abandoned", "cancelled"}
    assert house.counter("org") == {"spent": 7, "held": 0}


def row_status(house: House, call: Call) -> str:
    (status,) = [row.status for row in house.rows() if row.call_id == call.id]
    return str(status)


def test_one_that_cannot_be_closed_keeps_no_other_open(house: House) -> None:
    call = left_behind(house)
    strange: Any = {"01a1f9eb-0000-7184-97ad-1a1e75ffc990": '5|0|r|1|0|||gone|org,pool|{"of_another_version":1}'}
    redis.client().hset(counters.holds(house.organization.pk, house.token), mapping=strange)

    resolve_holds()

    assert row_status(house, call) == "abandoned"
    assert redis.client().hlen(counters.holds(house.organization.pk, house.token)) == 1
    redis.client().delete(counters.holds(house.organization.pk, house.token))


def test_an_organisation_that_cannot_be_resolved_keeps_no_other_open(house: House) -> None:
    call = left_behind(house)
    nobody = 0  # comes before every other
    broken = counters.holds(nobody, house.token)
    redis.client().hset(broken, str(call.id), "no record")
    redis.client().sadd(counters.ACTIVE_ORGANIZATIONS, nobody)
    try:
        with pytest.raises(ValueError, match="not enough values"):
            resolve_holds()
    finally:
        redis.client().srem(counters.ACTIVE_ORGANIZATIONS, nobody)
        redis.client().delete(broken)

    assert row_status(house, call) == "abandoned"
    assert house.held() == {}


def test_without_postgresql_nothing_is_forgotten(house: House) -> None:
    """Where a row cannot be written the hold stays, and still counts."""
    left_behind(house)

    async def work() -> None:
        await (await database.pool()).close()
        with pytest.raises(database.DatabaseUnavailable):
            await holds.resolve(house.organization.pk)

    as_worker(work())
    assert house.counter("org") == {"spent": 0, "held": AMOUNT}

    assert resolve_holds() == 1
    assert house.held() == {}


def test_a_row_that_the_ledger_refuses_leaves_no_hold(house: House) -> None:
    async def work() -> None:
        call = await admitted(house)
        row = finished(call, charged=5)
        row.input_tokens = 1 << 63
        with pytest.raises(GuardrailsUnavailable):
            await settling.close(call, row)
        other = await admitted(house)
        row = finished(other, charged=5)
        row.input_tokens = 1 << 63
        settling.close_later(other, row)

    as_worker(work())

    assert house.held() == {}
    assert house.rows() == []
    assert house.counter("org") == {"spent": 0, "held": 0}
