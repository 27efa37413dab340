"""A gateway that is stopped while PostgreSQL hangs: it ends in time, what was delivered is charged, what is owed given back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from pytest_django import Settings

from billing import spool
from gateway_project.embedded.up import CLOSING_SECONDS
from gateway_project.lib import database
from gateway_project.lib.ending import ending
from proxy import recording, settling
from proxy.call import Call
from proxy.errors import GuardrailsUnavailable
from proxy.tasks import resolve_holds
from tests.billing import rows
from tests.coroutines import as_worker
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy.calls import admitted
from tests.proxy.test_draining import all_is_settled, nothing_waits, until
from tests.proxy.test_hanging_up import STREAM, WHOLE, begin
from tests.proxy.test_settling import assert_taken_back, is_withheld, told_too_early
from tests.proxy.test_spooling import Cable, assert_counters_equal_the_ledger, waiting
from tests.upstream import Upstream, answer, frame, stream

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() AND query ~ %s"


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.SPOOL_FOLDER = tmp_path / "spool"
    return tmp_path / "spool"


@pytest.fixture
def cable(committed_db: None) -> Iterator[Cable]:
    made = Cable()
    yield made
    made.close()


@pytest.mark.parametrize("silent_for", [0, 1.5], ids=["at the end", "before"])
def test_what_was_delivered_is_charged_when_postgresql_is_back(
    start_gateway: Callable[..., Gateway], cable: Cable, house: House, upstream: Upstream, folder: Path, silent_for: float
) -> None:
    gateway = start_gateway("closing", DATABASE_URL=cable.url, SPOOL_FOLDER=str(folder), SHUTDOWN_SECONDS="1")
    upstream.on("pair", answer())
    raw(gateway.url, house.key_text, WHOLE.replace(b"scripted", b"pair"))
    upstream.on("scripted", stream(frame({"role": "assistant", "content": "Hello there"}), ending="hang"))
    with closing(begin(gateway, house, STREAM)) as connection:
        while b"Hello there" not in connection.recv(65536):
            pass
        cable.wire.mode = "silent"
        time.sleep(silent_for)
        began = time.monotonic()
        os.kill(gateway.pid, signal.SIGTERM)
        assert eventually(lambda: gateway.child.exit_code is not None, seconds=60)
        assert time.monotonic() - began < 1 + CLOSING_SECONDS
    assert waiting(folder) > 0

    assert eventually(lambda: resolve_holds() == 0 and not house.held(), seconds=10)
    (cut,) = (row for row in house.rows() if row.status == "cut")
    assert cut.charged_nano_usd == cut.input_tokens * 1_000 + cut.output_tokens * 4_000 > 0
    assert_counters_equal_the_ledger(house)


def test_what_a_process_had_no_time_to_give_back_the_next_one_does(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is committed as its caller has been told 503; from then on another session's lock keeps every row waiting."""
    monkeypatch.setattr(ending, "is_asked", True)

    async def comes_to_wait(query: str) -> None:
        async with asyncio.timeout(10):
            while not (await database.rows(WAITING, (query,)))[0]["count"]:
                await asyncio.sleep(0.01)

    async def work() -> Call:
        before, call = await admitted(house), await admitted(house)
        await settling.close(before, recording.failed(before, error=GuardrailsUnavailable()))
        with rows.other_connection() as other:
            rows.insert(house.organization.pk, into=other, call_id=call.id, status="abandoned")
            closing = await told_too_early(call, settings)
            await comes_to_wait("INSERT INTO billing_usagerecord")
            await is_withheld(closing)
            lock = asyncio.create_task(asyncio.to_thread(locking.execute, b"LOCK TABLE billing_usagerecord IN SHARE MODE"))
            await comes_to_wait("LOCK TABLE")
            await asyncio.to_thread(other.rollback)
        await lock
        return call

    with psycopg.connect(database.conninfo()) as locking:
        call: Call = as_worker(work())
        locking.rollback()
    assert spool.backlog().rows == 1

    as_worker(until(nothing_waits))
    assert_taken_back(house, call)
    assert all_is_settled(house, spent=0)
