"""Redis is away from a worker: by default no call passes; where an organisation has asked for it, each does, and is counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.conf import settings
from django.db import transaction

from gateway_project.lib.money import NANO
from guardrails.leases import LATE_SECONDS
from orgs.models import Membership
from orgs.services.keys import disable_key, revoke_key
from orgs.services.members import suspend_member
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy.calls import body
from tests.upstream import DONE, Upstream, answer
from tests.wire import Mode, Wire

COST = 10 * 1_000 + 2 * 4_000


class RedisWire(Wire):
    """The same between a worker and Redis."""

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = urlsplit(settings.REDIS_URL)
        if url.scheme == "unix":
            return await asyncio.open_unix_connection(url.path)
        return await asyncio.open_connection(url.hostname, url.port or 6379)


class Cable:
    """A wire with an event loop of its own, for a worker in another process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.wire = RedisWire({})
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server: asyncio.Server = self._ask(asyncio.start_server(self.wire.accept, "127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/0"

    def cut(self, mode: Mode) -> None:
        self._ask(self._cut(mode))

    async def _cut(self, mode: Mode) -> None:
        self.wire.cut(mode)

    def close(self) -> None:
        self.cut("refused")
        self.server.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    def _ask(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    found = Cable()
    yield found
    found.close()


@pytest.fixture(scope="module")
def remote(start_gateway: Callable[..., Gateway], cable: Cable) -> Gateway:
    """A worker whose Redis is at the other end of the cable."""
    return start_gateway("remote", REDIS_URL=cable.url, GUARDRAILS_TIMEOUT_SECONDS="0.4")


@pytest.fixture
def line(cable: Cable, remote: Gateway, house: House) -> Iterator[Cable]:
    """The worker knows mia's key, with Redis in reach; it is in reach again afterwards."""
    cable.cut("through")
    assert eventually(lambda: raw(remote.url, house.key_text, body()).status_code == 200, seconds=15)
    yield cable
    cable.cut("through")
    assert eventually(lambda: raw(remote.url, house.key_text, body()).status_code != 503, seconds=15)


def books_agree(house: House) -> bool:
    """Every counter of the path is the ledger's sum, and nothing is held."""
    world = house.world
    subjects = ["org", "pool", f"g{world.engineering.pk}", f"g{world.gateway.pk}", f"m{world.mia.pk}", f"k{house.key.pk}"]

    def agree() -> bool:
        charged = sum(row.charged_nano_usd for row in house.rows())
        return not house.held() and all(house.counter(name) == {"spent": charged, "held": 0} for name in subjects)

    return bool(eventually(agree, seconds=10))


def unguarded_calls(gateway: Gateway) -> float:
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("gatehouse_unguarded_calls_total"))


@pytest.mark.parametrize("mode", ["refused", "silent"])
def test_by_default_no_call_passes_unchecked(remote: Gateway, line: Cable, house: House, upstream: Upstream, mode: Mode) -> None:
    _, unknown = house.new_key()
    upstream.forget()
    line.cut(mode)

    for key in (house.key_text, unknown):
        got = raw(remote.url, key, body())
        assert (got.status_code, got.json()["error"]["code"]) == (503, "guardrails_unavailable")

    assert upstream.received == []
    line.cut("through")
    assert books_agree(house)


@pytest.mark.parametrize("mode", ["refused", "silent"])
def test_with_the_switch_calls_pass_marked_and_charged_and_the_books_agree_afterwards(
    remote: Gateway, line: Cable, house: House, mode: Mode
) -> None:
    house.change(admit_unguarded=True)
    assert raw(remote.url, house.key_text, body()).status_code == 200
    before, counted = house.counter("org")["spent"], unguarded_calls(remote)
    line.cut(mode)

    got = [raw(remote.url, house.key_text, body()) for _ in range(3)]
    streamed = raw(remote.url, house.key_text, body(stream=True))

    for answered in (*got, streamed):
        assert (answered.status_code, answered.headers["x-gatehouse-guardrails"]) == (200, "unchecked")
        row = house.row_of(answered.headers["x-request-id"])
        assert (row.status, row.charged_nano_usd, row.decision) == ("ok", COST, {"unguarded": True})
        assert answered.headers["x-request-id"] in remote.logged()
    assert streamed.content.endswith(DONE)
    assert unguarded_calls(remote) == counted + 4
    assert "call.unguarded" in remote.logged()
    assert house.counter("org")["spent"] == before

    line.cut("through")
    assert books_agree(house)
    assert house.counter("org")["spent"] == before + 4 * COST
    # The next renewal of the lease finds out that limits can be checked again.
    assert eventually(lambda: "x-gatehouse-guardrails" not in raw(remote.url, house.key_text, body()).headers)


def test_a_key_that_this_worker_never_saw_passes_as_well(remote: Gateway, line: Cable, house: House) -> None:
    house.change(admit_unguarded=True)
    _, unknown = house.new_key()
    line.cut("refused")

    got = raw(remote.url, unknown, body())
    nobody = raw(remote.url, "gh_sk_abcdefabcdef_" + "x" * 43, body())

    assert (got.status_code, got.headers["x-gatehouse-guardrails"]) == (200, "unchecked")
    assert nobody.status_code == 401


def no_model(house: House) -> None:
    house.policy(rules={"models": ["pair"]})


def no_provider(house: House) -> None:
    house.policy(rules={"providers": ["second"]})


def no_address(house: House) -> None:
    house.policy(rules={"addresses": ["10.0.0.0/8"]}, to={"member": house.world.mia})


def few_tokens(house: House) -> None:
    house.policy(("max_tokens", "call", 50), to={"group": house.world.root})


def suspended(house: House) -> None:
    membership = Membership.objects.get(user=house.world.mia, group__organization=house.organization)
    suspend_member(membership, by=house.world.actor("alice"))


def disabled(house: House) -> None:
    disable_key(house.key, by=house.world.actor("alice"))


def revoked(house: House) -> None:
    revoke_key(house.key, by=house.world.actor("alice"))


def switched_off(house: House) -> None:
    house.change(admit_unguarded=False)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (disabled, "key_disabled"),
        (revoked, "key_revoked"),
        (suspended, "account_frozen"),
        (no_model, "model_not_allowed"),
        (no_provider, "provider_not_allowed"),
        (no_address, "ip_not_allowed"),
        (few_tokens, "max_tokens_exceeded"),
        (switched_off, "guardrails_unavailable"),
    ],
)
def test_what_has_changed_meanwhile_counts_though_this_worker_remembers_otherwise(
    remote: Gateway, line: Cable, house: House, upstream: Upstream, change: Callable[[House], None], code: str
) -> None:
    house.change(admit_unguarded=True)
    assert raw(remote.url, house.key_text, body()).status_code == 200
    line.cut("refused")
    assert raw(remote.url, house.key_text, body()).status_code == 200
    upstream.forget()

    change(house)
    got = raw(remote.url, house.key_text, body(max_tokens=60))

    assert got.json()["error"]["code"] == code
    assert upstream.received == []
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.error_code) == ("refused", code)


def test_what_is_allowed_since_counts_as_well(remote: Gateway, line: Cable, house: House) -> None:
    house.change(admit_unguarded=True)
    blocked = house.policy(rules={"blocked_models": ["pair"]})
    assert raw(remote.url, house.key_text, body(model="pair")).status_code == 403
    line.cut("refused")
    assert raw(remote.url, house.key_text, body(model="pair")).status_code == 403

    with transaction.atomic():
        blocked.delete()

    assert raw(remote.url, house.key_text, body(model="pair")).status_code == 200


def test_the_switch_itself_counts_though_this_worker_remembers_the_key_without_it(
    remote: Gateway, line: Cable, house: House
) -> None:
    house.change(admit_unguarded=True)
    line.cut("refused")

    assert raw(remote.url, house.key_text, body()).headers["x-gatehouse-guardrails"] == "unchecked"


def test_a_limit_that_cannot_be_checked_holds_nobody_up(remote: Gateway, line: Cable, house: House) -> None:
    house.change(admit_unguarded=True)
    house.policy(("budget", "month", 1), ("rpm", "minute", 0), clamp=False)
    # A worker whose heartbeat is late, as on a busy machine, lets calls pass unchecked as well.
    assert eventually(lambda: raw(remote.url, house.key_text, body()).status_code == 403, seconds=10)
    line.cut("refused")

    assert raw(remote.url, house.key_text, body()).status_code == 200

    line.cut("through")
    assert eventually(lambda: raw(remote.url, house.key_text, body()).status_code == 403, seconds=10)
    assert books_agree(house)


@pytest.mark.parametrize("passes", [True, False])
def test_an_admission_whose_answer_was_lost_leaves_no_hold_and_counts_once(
    remote: Gateway, line: Cable, house: House, upstream: Upstream, passes: bool
) -> None:
    """Redis held the worst case, and nobody heard of it; then the call passed unchecked, or did not pass at all."""
    house.change(admit_unguarded=True)
    assert raw(remote.url, house.key_text, body()).status_code == 200
    if not passes:
        # Nobody announces it, so the worker still remembers the key as it was.
        type(house.key).objects.filter(pk=house.key.pk).update(disabled_at=house.key.created_at)
    line.cut("lose the next answer, then refuse")

    got = raw(remote.url, house.key_text, body())

    assert got.status_code == (200 if passes else 401)
    line.cut("through")
    assert books_agree(house)


def test_a_stream_that_began_under_limits_and_one_that_did_not_both_end_settled(
    remote: Gateway, line: Cable, house: House, upstream: Upstream
) -> None:
    house.change(admit_unguarded=True)
    upstream.on("scripted", answer(before=1))
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(raw(remote.url, house.key_text, body()))) for _ in range(2)]
    threads[0].start()
    time.sleep(0.3)
    line.cut("refused")
    threads[1].start()
    for thread in threads:
        thread.join()

    assert [answered.status_code for answered in answers] == [200, 200]
    line.cut("through")
    assert books_agree(house)


def test_a_worker_that_starts_without_redis_serves_at_once(
    start_gateway: Callable[..., Gateway], cable: Cable, remote: Gateway, house: House
) -> None:
    house.change(admit_unguarded=True)
    cable.cut("refused")

    newborn = start_gateway("newborn", REDIS_URL=cable.url, GUARDRAILS_TIMEOUT_SECONDS="0.4")
    got = raw(newborn.url, house.key_text, body())

    assert (got.status_code, got.headers["x-gatehouse-guardrails"]) == (200, "unchecked")
    missing = raw(newborn.url, house.key_text, body(model="no-such-model"))
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    cable.cut("through")
    assert eventually(lambda: "x-gatehouse-guardrails" not in raw(newborn.url, house.key_text, body()).headers, seconds=10)
    assert books_agree(house)


def test_a_call_is_free_where_its_provider_fails_checked_or_not(
    remote: Gateway, line: Cable, house: House, upstream: Upstream
) -> None:
    house.change(admit_unguarded=True)
    house.policy(("budget", "month", NANO))
    line.cut("refused")

    got = raw(remote.url, house.key_text, body(model="dead"))

    assert got.status_code == 502
    assert house.row_of(got.headers["x-request-id"]).charged_nano_usd == 0
    line.cut("through")
    assert books_agree(house)


def test_a_redis_that_says_nothing_holds_up_the_first_moments_only(
    start_gateway: Callable[..., Gateway], cable: Cable, house: House, upstream: Upstream
) -> None:
    cable.cut("through")
    patient = start_gateway("patient", REDIS_URL=cable.url, GUARDRAILS_TIMEOUT_SECONDS="3")
    house.change(admit_unguarded=True)
    assert raw(patient.url, house.key_text, body()).status_code == 200
    try:
        cable.cut("silent")
        time.sleep(LATE_SECONDS + 0.5)
        for _ in range(3):
            began = time.monotonic()
            answered = raw(patient.url, house.key_text, body())
            assert (answered.status_code, answered.headers["x-gatehouse-guardrails"]) == (200, "unchecked")
            assert time.monotonic() - began < 2.5
    finally:
        cable.cut("through")
    assert books_agree(house)
