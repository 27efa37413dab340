"""A web process that is killed in the middle of its calls: no hold stays, no row is lost, and the next call works."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import pytest

from billing.models import UsageRecord
from proxy.tasks import resolve_holds
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.upstream import HANG, Upstream, answer, frame, frames, stream

LEASE_SECONDS = 4
BODY = b'{"model":"%s","messages":[{"role":"user","content":"Tell me about the gate."}]%s}'
WHOLE, STREAM = BODY % (b"scripted", b""), BODY % (b"pair", b',"stream":true')
COST = 10 * 1_000 + 2 * 4_000


@pytest.fixture(scope="module")
def mortal(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A worker that is taken for dead after four seconds."""
    return start_gateway("mortal", LEASE_SECONDS=str(LEASE_SECONDS))


@pytest.fixture
def quick_calls(upstream: Upstream) -> None:
    """Answers that take long enough for a kill to find some of them under way."""
    upstream.on("scripted", answer("Hello", usage=(10, 2), before=0.03))
    upstream.on("pair", stream(*frames("Hel", usage=(10, 2))[:2], 0.03, *frames("lo", usage=(10, 2))[2:]))


def nothing_left_held(house: House) -> bool:
    """As Celery would ask every few seconds."""

    def resolved() -> bool:
        resolve_holds()
        time.sleep(0.2)
        return not house.held()

    return bool(eventually(resolved, seconds=LEASE_SECONDS + 6))


def ledger_sums(house: House) -> Counter[str]:
    sums: Counter[str] = Counter()
    for row in house.rows():
        groups = [row.group1_id, row.group2_id, row.group3_id, row.group4_id]
        subjects = [f"g{group}" for group in groups if group]
        for subject in ("org", "pool", *subjects, f"m{row.member_id}", f"k{row.api_key_id}"):
            sums[subject] += row.charged_nano_usd
    return sums


def assert_counters_equal_the_ledger(house: House) -> None:
    sums = ledger_sums(house)
    assert len(sums) == 7
    for subject, spent in sums.items():
        assert house.counter(subject) == {"spent": spent, "held": 0}, subject


def test_calls_in_flight_are_closed_for_nothing_and_those_answered_stay_charged(
    mortal: Gateway, house: House, upstream: Upstream
) -> None:
    answered = [raw(mortal.url, house.key_text, WHOLE).headers["x-request-id"] for _ in range(3)]
    upstream.received.clear()
    upstream.on("scripted", HANG)
    upstream.on("pair", stream(frame({"content": "half a word"}), 30.0))
    begun = threading.Semaphore(0)

    def wait_for_ever(body: bytes) -> str:
        headers = {"authorization": f"Bearer {house.key_text}"}
        try:
            with httpx.stream(
                "POST", f"{mortal.url}/v1/chat/completions", content=body, headers=headers, timeout=30, trust_env=False
            ) as got:
                for part in got.iter_raw():
                    assert b"half a word" in part
                    begun.release()
        except httpx.TransportError:
            return "broken"
        return "complete"

    with ThreadPoolExecutor(8) as pool:
        outcomes = pool.map(wait_for_ever, [WHOLE] * 4 + [STREAM] * 4)
        for _ in range(4):
            assert begun.acquire(timeout=10)
        assert eventually(lambda: len(upstream.received) == 8)
        assert len(house.held()) == 7 + 8
        mortal.kill()
        assert list(outcomes) == ["broken"] * 8

    upstream.forget()
    mortal.start()
    again = raw(mortal.url, house.key_text, WHOLE)
    assert again.status_code == 200

    assert nothing_left_held(house)
    statuses = {str(row.call_id): (row.status, row.charged_nano_usd) for row in house.rows()}
    for call_id in [*answered, again.headers["x-request-id"]]:
        assert statuses.pop(call_id) == ("ok", COST)
    assert list(statuses.values()) == [("abandoned", 0)] * 8
    assert_counters_equal_the_ledger(house)


@dataclass
class Callers:
    """Programs that call and call again, and remember the id of each complete answer."""

    url: str
    key: str
    stop: threading.Event = field(default_factory=threading.Event)
    complete: list[str] = field(default_factory=list)
    broken: int = 0

    def loop(self, number: int) -> None:
        while not self.stop.is_set():
            try:
                got = raw(self.url, self.key, STREAM if number % 2 else WHOLE)
            except httpx.TransportError:
                self.broken += 1
                continue
            if got.status_code == 200 and (number % 2 == 0 or b"[DONE]" in got.content):
                self.complete.append(got.headers["x-request-id"])

    def complete_more(self, calls: int) -> bool:
        """Waits until so many more have been answered."""
        wanted = len(self.complete) + calls
        return bool(eventually(lambda: len(self.complete) >= wanted, seconds=15))


@pytest.fixture
def programs(mortal: Gateway, house: House, quick_calls: None) -> Iterator[Callers]:
    callers = Callers(mortal.url, house.key_text)
    with ThreadPoolExecutor(6) as pool:
        for number in range(6):
            pool.submit(callers.loop, number)
        yield callers
        callers.stop.set()


def test_every_answer_that_was_complete_has_its_row_whenever_the_process_dies(
    mortal: Gateway, house: House, programs: Callers
) -> None:
    for _ in range(2):
        assert programs.complete_more(30)
        mortal.kill()
        mortal.start()
    assert programs.complete_more(10)
    programs.stop.set()

    assert nothing_left_held(house)
    assert programs.broken > 0
    rows = {row.call_id: row for row in house.rows()}
    for call_id in programs.complete:
        row = rows[UUID(call_id)]
        assert (row.status, row.charged_nano_usd) == ("ok", COST)
    assert {row.status for row in rows.values()} <= {"ok", "abandoned", "cancelled"}
    assert UsageRecord.objects.filter(organization=house.organization).count() == len(rows)
    assert_counters_equal_the_ledger(house)


def test_an_orderly_stop_leaves_nothing_to_resolve(
    start_gateway: Callable[..., Gateway], house: House, upstream: Upstream
) -> None:
    """As a deployment does it: what runs is finished, and the lease is given up at once."""
    upstream.on("scripted", answer("Hello", usage=(10, 2), before=0.5))
    leaving = start_gateway("leaving")
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(raw, leaving.url, house.key_text, WHOLE) for _ in range(4)]
        assert eventually(lambda: len(upstream.received) == 4)
        leaving.stop()
        assert [call.result().status_code for call in calls] == [200] * 4

    assert house.held() == {}
    assert_counters_equal_the_ledger(house)
    assert house.counter("org")["spent"] == 4 * COST
