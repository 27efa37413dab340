"""Two workers, one of which is killed at any moment: what is repeated under its key until it is answered is charged once."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import httpx
import pytest

from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy.test_crash import COST, LEASE_SECONDS, STREAM, WHOLE, nothing_left_held
from tests.upstream import HANG, Upstream, answer, frames, refuse, stream


@pytest.fixture(scope="module")
def workers(start_gateway: Callable[..., Gateway]) -> list[Gateway]:
    """The first is the one that gets killed; both take a silent worker for dead after four seconds."""
    return [start_gateway(name, LEASE_SECONDS=str(LEASE_SECONDS)) for name in ("victim", "survivor")]


def ask(gateway: Gateway, house: House, content: bytes, key: str) -> httpx.Response:
    return raw(gateway.url, house.key_text, content, **{"idempotency-key": key})


def test_who_waits_for_a_call_whose_worker_is_killed_runs_it_and_is_charged_once(
    workers: list[Gateway], house: House, upstream: Upstream
) -> None:
    victim, survivor = workers
    upstream.then(HANG)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, victim, house, WHOLE, "one")
        assert eventually(lambda: upstream.received)
        repeated = [pool.submit(ask, survivor, house, WHOLE, "one") for _ in range(2)]
        victim.kill()
        assert isinstance(first.exception(), httpx.TransportError)
        answers = [call.result() for call in repeated]
    victim.start()

    assert sorted(found.status_code for found in answers) == [200, 409]
    assert nothing_left_held(house)
    assert sorted(row.status for row in house.rows()) == ["abandoned", "ok", "refused"]
    assert sum(row.charged_nano_usd for row in house.rows()) == COST


@dataclass
class Orders:
    """Programs, each of which repeats one call under its key, here or there, until it knows that it was answered."""

    workers: list[Gateway]
    house: House
    wanted: int
    numbers: count[int] = field(default_factory=count)
    # The call that each key ended with, as its program was told.
    known: dict[str, str] = field(default_factory=dict)

    def work(self) -> None:
        with httpx.Client(trust_env=False, verify=False, timeout=30) as client:  # noqa: S501
            while (number := next(self.numbers)) < self.wanted:
                content, key = STREAM if number % 2 else WHOLE, f"order {number}"
                while key not in self.known:
                    self._try(client, content, key)

    def _try(self, client: httpx.Client, content: bytes, key: str) -> None:
        headers = {"authorization": f"Bearer {self.house.key_text}", "idempotency-key": key}
        gateway = secrets.choice(self.workers)
        try:
            found = client.post(f"{gateway.url}/v1/chat/completions", content=content, headers=headers)
        except httpx.TransportError:
            return
        if found.status_code == 200 and (content == WHOLE or b"[DONE]" in found.content):
            self.known[key] = found.headers["x-request-id"]
        elif found.status_code == 409 and found.json()["error"]["code"] == "already_completed":
            self.known[key] = found.json()["error"]["gatehouse"]["call_id"]
        else:
            assert found.status_code in (200, 409, 502, 503), found.text


@pytest.mark.parametrize("retention", [0, 24])
def test_every_key_is_charged_exactly_once_whenever_a_worker_is_killed(
    workers: list[Gateway], house: House, upstream: Upstream, retention: int
) -> None:
    house.change(content_retention_hours=retention)
    upstream.on("scripted", answer("Hello", usage=(10, 2), before=0.1))
    upstream.on("pair", stream(*frames("Hel", usage=(10, 2))[:2], 0.1, *frames("lo", usage=(10, 2))[2:]))
    orders = Orders(workers, house, wanted=80)

    with ThreadPoolExecutor(6) as pool:
        programs = [pool.submit(orders.work) for _ in range(6)]
        assert eventually(lambda: len(orders.known) >= 20, seconds=40)
        upstream.then(refuse(500), refuse(429))
        workers[0].kill()
        workers[0].start()
        for program in programs:
            program.result(timeout=60)

    assert nothing_left_held(house)
    assert len(orders.known) == len(set(orders.known.values())) == 80
    charged = {str(row.call_id): row.charged_nano_usd for row in house.rows() if row.charged_nano_usd}
    assert charged == dict.fromkeys(orders.known.values(), COST)
