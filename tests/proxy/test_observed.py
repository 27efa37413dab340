"""How long answers usually are: read from the ledger, remembered for a minute, and never the reason a call fails."""

from __future__ import annotations

import asyncio

import pytest

from gateway_project.lib import database
from proxy import observed
from tests.coroutines import as_worker
from tests.gateways import Gateway
from tests.house import House, raw
from tests.proxy.calls import body
from tests.upstream import Upstream, answer


def usual(house: House, model: str = "scripted") -> int | None:
    observed._known.clear()
    found: int | None = as_worker(observed.usual_output(house.key.pk, model))
    return found


def answered(gateway: Gateway, upstream: Upstream, key: str, *outputs: int) -> None:
    upstream.then(*(answer(usage=(10, output)) for output in outputs))
    for _ in outputs:
        assert raw(gateway.url, key, body()).status_code == 200


def test_nineteen_in_twenty_need_no_more(gateway: Gateway, house: House, upstream: Upstream) -> None:
    answered(gateway, upstream, house.key_text, *range(1, observed.LEAST_ANSWERS))
    assert usual(house) is None

    answered(gateway, upstream, house.key_text, 1000)
    assert usual(house) == 19


def test_only_this_key_and_this_model_count(gateway: Gateway, house: House, upstream: Upstream) -> None:
    _, other = house.new_key()
    answered(gateway, upstream, other, *[500] * 20)

    assert usual(house) is None
    assert usual(house, "pair") is None


def test_an_answer_of_nothing_still_needs_a_token(gateway: Gateway, house: House, upstream: Upstream) -> None:
    answered(gateway, upstream, house.key_text, *[0] * 20)

    assert usual(house) == 1


@pytest.mark.parametrize("read_before", [True, False])
def test_without_postgresql_what_was_known_counts_and_no_call_fails(
    gateway: Gateway, house: House, upstream: Upstream, read_before: bool
) -> None:
    answered(gateway, upstream, house.key_text, *[7] * 20)
    observed._known.clear()

    async def work() -> int | None:
        if read_before:
            assert await observed.usual_output(house.key.pk, "scripted") == 7
            known = observed._known[house.key.pk, "scripted"]
            observed._known[house.key.pk, "scripted"] = (known[0] - 2 * observed.REMEMBER_SECONDS, known[1])
        await (await database.pool()).close()
        return await observed.usual_output(house.key.pk, "scripted")

    assert as_worker(work()) == (7 if read_before else None)


def test_it_is_read_once_a_minute(gateway: Gateway, house: House, upstream: Upstream) -> None:
    answered(gateway, upstream, house.key_text, *[7] * 20)
    observed._known.clear()

    async def work() -> list[int | None]:
        first = await observed.usual_output(house.key.pk, "scripted")
        await (await database.pool()).close()
        return [first, *await asyncio.gather(*(observed.usual_output(house.key.pk, "scripted") for _ in range(3)))]

    assert as_worker(work()) == [7] * 4
