"""PostgreSQL goes away under load: answers keep coming, and when it is back every one of them has its row, once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx
import pytest
from django.test import Client
from pytest_django import Settings

from gateway_project import degraded
from gateway_project.lib import redis
from guardrails import counters
from proxy.tasks import resolve_holds
from tests.gateways import Gateway, database_url_of_tests
from tests.house import House, eventually, raw
from tests.upstream import Upstream, answer, frames, stream
from tests.wire import Mode, Wire

BODY = b'{"model":"%s","messages":[{"role":"user","content":"Tell me about the gate."}]%s}'
WHOLE, STREAM = BODY % (b"scripted", b""), BODY % (b"pair", b',"stream":true')
COST = 10 * 1_000 + 2 * 4_000


class Cable:
    """A wire to PostgreSQL for other processes, with an event loop of its own."""

    def __init__(self) -> None:
        from django.db import connection

        self.loop = asyncio.new_event_loop()
        self.wire = Wire(dict(connection.settings_dict))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._ask(asyncio.start_server(self.wire.accept, "127.0.0.1", 0))
        port = self.server.sockets[0].getsockname()[1]
        real = urlsplit(database_url_of_tests())
        login = real.netloc.rpartition("@")[0]
        self.url = urlunsplit(real._replace(netloc=f"{login}@127.0.0.1:{port}"))

    def cut(self, mode: Mode) -> None:
        self.loop.call_soon_threadsafe(self.wire.cut, mode)

    def close(self) -> None:
        self.cut("refused")
        self._ask(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    async def _end(self) -> None:
        self.server.close()
        for _ in range(100):
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if not others:
                return
            await asyncio.sleep(0.02)

    def _ask(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)


@pytest.fixture
def cable(committed_db: None) -> Iterator[Cable]:
    made = Cable()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def worker(start_gateway: Callable[..., Gateway], cable: Cable, folder: Path) -> Iterator[Gateway]:
    """A web process that reaches PostgreSQL over the cable, and spools to a folder of this test."""
    started = start_gateway(
        "spooling", DATABASE_URL=cable.url, SPOOL_FOLDER=str(folder), LEASE_SECONDS="4", LEDGER_TIMEOUT_SECONDS="4"
    )
    yield started
    started.stop()


@pytest.fixture
def quick_calls(upstream: Upstream) -> None:
    upstream.on("scripted", answer("Hello", usage=(10, 2), before=0.01))
    upstream.on("pair", stream(*frames("Hel", usage=(10, 2))[:2], 0.01, *frames("lo", usage=(10, 2))[2:]))


@dataclass
class Programs:
    """Programs that call and call again; `complete`: ids of complete answers."""

    url: str
    key: str
    stop: threading.Event = field(default_factory=threading.Event)
    complete: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    running: list[Future[None]] = field(default_factory=list)

    def loop(self, number: int) -> None:
        while not self.stop.is_set():
            try:
                got = raw(self.url, self.key, STREAM if number % 2 else WHOLE)
            except httpx.TransportError:
                self.refused[0] += 1
                time.sleep(0.05)
                continue
            if got.status_code == 200 and (number % 2 == 0 or b"[DONE]" in got.content):
                self.complete.append(got.headers["x-request-id"])
            else:
                self.refused[got.status_code] += 1

    def end(self) -> None:
        """Returns when the last of them has its answer."""
        self.stop.set()
        wait(self.running, timeout=30)

    def complete_more(self, calls: int, *, seconds: float = 15) -> bool:
        wanted = len(self.complete) + calls
        return bool(eventually(lambda: len(self.complete) >= wanted, seconds=seconds))


@pytest.fixture
def programs(worker: Gateway, house: House, quick_calls: None) -> Iterator[Programs]:
    made = Programs(worker.url, house.key_text)
    with ThreadPoolExecutor(6) as pool:
        for number in range(6):
            made.running.append(pool.submit(made.loop, number))
        yield made
        made.end()


def readiness(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    answered = httpx.get(f"{gateway.url}/readyz", trust_env=False, timeout=10)
    return answered.status_code, answered.json()


def waiting(folder: Path) -> int:
    """Bytes in the folder. Workers remove their files at any time; what is gone holds none."""
    size = 0
    for path in folder.glob("*") if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def assert_each_answer_is_in_the_ledger_once(house: House, complete: list[str]) -> None:
    rows = {row.call_id: row for row in house.rows()}
    for call_id in complete:
        assert (rows[UUID(call_id)].status, rows[UUID(call_id)].charged_nano_usd) == ("ok", COST)
    assert len(house.rows()) == len(rows)


def assert_counters_equal_the_ledger(house: House) -> None:
    assert house.nothing_held()
    spent = sum(row.charged_nano_usd for row in house.rows())
    for subject in ("org", "pool", f"k{house.key.pk}"):
        assert house.counter(subject) == {"spent": spent, "held": 0}, subject


@pytest.fixture
def banner(house: House, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether the console of another process on this host, which has PostgreSQL, says that figures are behind."""
    settings.SPOOL_FOLDER = folder
    browser = Client()
    browser.force_login(house.world.alice)

    def shown() -> bool:
        monkeypatch.setattr(degraded, "_last", None)
        return "Figures are behind:" in browser.get(f"/o/{house.organization.slug}/", follow=True).content.decode()

    return shown


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_answers_keep_coming_and_nothing_is_lost(
    worker: Gateway, cable: Cable, house: House, programs: Programs, folder: Path, how: Mode, banner: Callable[[], bool]
) -> None:
    assert programs.complete_more(20)
    cable.cut(how)
    assert programs.complete_more(100)
    during = list(programs.complete)
    assert waiting(folder) > 0
    status, shown = readiness(worker)
    assert (status, shown["status"]) == (200, "degraded")
    assert shown["spooled_rows"] > 0
    assert banner()
    cable.cut("through")
    assert programs.complete_more(50)
    programs.end()

    assert eventually(lambda: waiting(folder) == 0, seconds=15)
    assert len(during) >= 100
    assert programs.refused == Counter()
    assert_each_answer_is_in_the_ledger_once(house, programs.complete)
    assert_counters_equal_the_ledger(house)
    assert eventually(lambda: readiness(worker) == (200, {"status": "ok", "postgres": "ok", "redis": "ok"}))
    assert not banner()


def test_a_worker_killed_with_a_spool_is_drained_by_another(
    worker: Gateway, cable: Cable, house: House, programs: Programs, folder: Path, start_gateway: Callable[..., Gateway]
) -> None:
    assert programs.complete_more(10)
    cable.cut("refused")
    assert programs.complete_more(40)
    worker.kill()
    programs.stop.set()  # some wait at the port until it answers again
    assert waiting(folder) > 0

    another = start_gateway("draining", SPOOL_FOLDER=str(folder), DATABASE_URL=database_url_of_tests())
    try:
        assert eventually(lambda: waiting(folder) == 0, seconds=15)
    finally:
        another.stop()
        worker.start()
        programs.end()
    assert_each_answer_is_in_the_ledger_once(house, programs.complete)
    assert eventually(lambda: resolve_holds() == 0 and not house.held(), seconds=10)
    assert_counters_equal_the_ledger(house)


def test_a_worker_that_stops_in_good_order_leaves_what_it_could_not_write(
    worker: Gateway, cable: Cable, house: House, quick_calls: None, folder: Path, settings: Settings
) -> None:
    first = raw(worker.url, house.key_text, WHOLE)
    cable.cut("refused")
    ids = [first.headers["x-request-id"]] + [
        raw(worker.url, house.key_text, body).headers["x-request-id"] for body in (WHOLE, STREAM)
    ]
    worker.stop()
    assert waiting(folder) > 0
    assert redis.client().hlen(counters.holds(house.organization.pk, house.token)) == 2
    assert len(house.rows()) == 1

    settings.SPOOL_FOLDER = folder
    resolve_holds()
    assert_each_answer_is_in_the_ledger_once(house, ids)
    assert_counters_equal_the_ledger(house)


def test_who_is_not_known_yet_is_told_to_come_again(
    worker: Gateway, cable: Cable, house: House, quick_calls: None, folder: Path
) -> None:
    """A key that this worker has not seen cannot be looked up; one that it has can go on."""
    assert raw(worker.url, house.key_text, WHOLE).status_code == 200
    _, stranger = house.new_key()
    assert raw(worker.url, stranger, WHOLE).status_code == 200
    _, unknown = house.new_key()
    cable.cut("refused")

    got = raw(worker.url, unknown, WHOLE)
    assert (got.status_code, got.json()["error"]["gatehouse"]["code"]) == (503, "guardrails_unavailable")
