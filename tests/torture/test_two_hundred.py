"""Two hundred calls of $0.10 at once against a cap of $1.00: exactly ten pass, at every level, on one worker and on four."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from gateway_project.lib.money import NANO
from orgs.models import ApiKey
from orgs.services.members import add_member
from tests.gateways import Gateway
from tests.house import House, build
from tests.torture import client
from tests.torture.client import Seen
from tests.torture.company import OUTPUT_ONLY
from tests.torture.provider import Script

pytestmark = pytest.mark.usefixtures("committed_db", "models")

CALLS, CAP, PRICE, TOKENS = 200, NANO, NANO // 10, 1000
LEVELS = ("organization", "level 1", "level 2", "level 3", "level 4", "member", "key", "application", "credit pool")
REFUSED = {"credit pool": (402, "insufficient_credits")}


@pytest.fixture(scope="module")
def workers(start_gateway: Callable[..., Gateway]) -> list[Gateway]:
    return [start_gateway(f"two-hundred-{number}") for number in range(4)]


def capped(level: str) -> tuple[House, str]:
    """An organisation of its own with one cap, and a key at level 4 on whose path that lies."""
    house = build(credit_usd=1 if level == "credit pool" else 1000)
    world = house.world
    add_member(world.mia, group=world.group("core"), by=world.actor("alice"))
    key, text = house.new_key(group=world.core, application=world.assistant, environment="production")
    if level != "credit pool":
        house.limit("budget", CAP, window="day", **subject(house, key)[level])
    return house, text


def subject(house: House, key: ApiKey) -> dict[str, dict[str, Any]]:
    world = house.world
    return {
        "organization": {"group": world.root},
        "level 1": {"group": world.engineering},
        "level 2": {"group": world.platform},
        "level 3": {"group": world.gateway},
        "level 4": {"group": world.core},
        "member": {"member": world.mia},
        "key": {"api_key": key},
        "application": {"application": world.assistant},
    }


async def all_at_once(ports: list[int], key: str) -> list[Seen]:
    script = Script(number=0, input_tokens=10, output_tokens=TOKENS, wait=0.3)
    body = script.request(model=OUTPUT_ONLY, max_tokens=TOKENS, stream=False)
    return await asyncio.gather(*(client.call(ports[number % len(ports)], key=key, body=body) for number in range(CALLS)))


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("level", LEVELS)
def test_exactly_ten_pass(workers: list[Gateway], level: str, count: int) -> None:
    house, key = capped(level)

    answers = asyncio.run(all_at_once([worker.port for worker in workers[:count]], key))

    status, code = REFUSED.get(level, (403, "budget_exceeded"))
    assert Counter(answer.status for answer in answers) == {200: CAP // PRICE, status: CALLS - CAP // PRICE}
    assert all(code.encode() in answer.body for answer in answers if answer.status == status)
    assert house.nothing_held()
    charged = {str(row.call_id): row.charged_nano_usd for row in house.rows() if row.charged_nano_usd}
    assert charged == {answer.request_id: PRICE for answer in answers if answer.status == 200}


def test_nine_and_a_half_leave_no_room_for_another(workers: list[Gateway]) -> None:
    """A cap that is no multiple of the price: the rest stays unspent, to the nano-dollar."""
    house, key = capped("key")
    house.limit("budget", CAP - 1, window="total", member=house.world.mia)

    answers = asyncio.run(all_at_once([worker.port for worker in workers], key))

    assert sum(answer.status == 200 for answer in answers) == 9
    assert house.counter("org") == {"spent": 9 * PRICE, "held": 0}
