"""Rows that waited in a spool: each in the ledger once and settled once, whatever died in between and whoever goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from billing import ledger, spool
from billing.ledger import Row
from billing.models import UsageRecord
from gateway_project.lib import redis
from gateway_project.lib.ending import ending
from guardrails import admission, counters, loading, shrinking
from proxy import background, draining, recording, settling
from proxy.call import Call
from proxy.errors import GuardrailsUnavailable
from proxy.tasks import resolve_holds
from tests.billing import rows
from tests.coroutines import as_wired_worker, as_worker
from tests.forks import Forks
from tests.gateways import database_url_of_tests
from tests.house import House, eventually
from tests.proxy import dying
from tests.proxy.calls import admitted
from tests.wire import Wire

CHARGED = 1234
ROOT = Path(__file__).resolve().parent.parent.parent
FORKS = sys.platform == "linux"


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.SPOOL_FOLDER = tmp_path / "spool"
    return tmp_path / "spool"


def finished(call: Call, *, charged: int = CHARGED) -> Row:
    row = recording.cancelled(call)
    row.charged_nano_usd = row.list_nano_usd = charged
    return row


def redis_falls_silent(*, seconds: float) -> None:
    redis.client().execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")  # type: ignore[no-untyped-call]


def all_is_settled(house: House, *, spent: int = CHARGED) -> bool:
    return bool(eventually(lambda: not house.held() and house.counter("org") == {"spent": spent, "held": 0}, seconds=8))


async def until(look: Any, *, seconds: float = 8) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(look):
            await asyncio.sleep(0.05)


def nothing_waits() -> bool:
    return spool.backlog().rows == 0


# --- the way of one row ------------------------------------------------------------------------
def test_an_answer_goes_out_with_its_exact_cost_held_and_the_row_follows(house: House) -> None:
    async def work(wire: Wire) -> Call:
        call = await admitted(house)
        wire.cut("refused")
        await settling.close(call, finished(call))
        assert house.counter("org") == {"spent": 0, "held": CHARGED}
        assert spool.backlog().rows == 1
        wire.mode = "through"
        await until(nothing_waits)
        return call

    call: Call = as_wired_worker(work)

    assert all_is_settled(house)
    (row,) = house.rows()
    assert (row.call_id, row.charged_nano_usd) == (call.id, CHARGED)
    assert call.held is not None
    for subject in call.held.subjects:
        assert house.counter(subject) == {"spent": CHARGED, "held": 0}, subject


def test_a_cost_beyond_the_estimate_is_held_whole(house: House) -> None:
    async def work(wire: Wire) -> None:
        call = await admitted(house)
        assert call.held is not None
        beyond = call.held.amount_nano_usd + 9_007_199_254_740_993
        wire.cut("refused")
        await settling.close(call, finished(call, charged=beyond))
        assert house.counter("org") == {"spent": 0, "held": beyond}
        wire.mode = "through"
        await until(nothing_waits)
        assert house.counter("org") == {"spent": beyond, "held": 0}

    as_wired_worker(work)


def test_refusals_and_calls_nobody_waits_for_are_spooled_too(house: House) -> None:
    async def work(wire: Wire) -> None:
        held, free = await admitted(house), await admitted(house)
        assert free.held is not None
        await admission.release(free.held)
        free.held = None
        wire.cut("refused")
        settling.close_later(held, finished(held))
        settling.close_later(free, recording.cancelled(free))
        await until(lambda: spool.backlog().rows == 2)
        await background.drain()
        assert house.counter("org") == {"spent": 0, "held": CHARGED}
        wire.mode = "through"
        await until(nothing_waits)

    as_wired_worker(work)

    assert all_is_settled(house)
    assert len(house.rows()) == 2


def test_an_answer_whose_hold_cannot_be_shrunk_is_withheld_and_free(house: House, settings: Settings) -> None:
    async def work(wire: Wire) -> None:
        call = await admitted(house)
        wire.cut("refused")
        settings.GUARDRAILS_TIMEOUT_SECONDS = 0.2
        redis.scripts()._timeout_seconds = 0.2
        redis_falls_silent(seconds=0.7)
        with pytest.raises(GuardrailsUnavailable, match="nothing is charged"):
            await settling.close(call, finished(call))
        assert ledger.current().spool.is_drainable
        wire.mode = "through"
        await until(nothing_waits)

    as_wired_worker(work)

    assert all_is_settled(house, spent=0)
    (row,) = house.rows()
    assert (row.status, row.http_status, row.charged_nano_usd, row.absorbed_nano_usd) == ("failed", 503, 0, CHARGED)


def test_a_call_that_a_resolver_has_claimed_gives_no_answer(house: House) -> None:
    """The worker slept for longer than its lease; somebody is closing its call as abandoned."""

    async def work(wire: Wire) -> None:
        call = await admitted(house)
        assert await shrinking.claim(house.organization.pk, call.id)
        wire.cut("refused")
        with pytest.raises(GuardrailsUnavailable):
            await settling.close(call, finished(call))
        wire.mode = "through"
        await until(nothing_waits)

    as_wired_worker(work)

    assert all_is_settled(house, spent=0)
    assert [row.charged_nano_usd for row in house.rows()] == [0]


def test_a_caller_who_leaves_while_the_hold_is_shrunk_is_settled_all_the_same(house: House) -> None:
    async def work(wire: Wire) -> None:
        call = await admitted(house)
        wire.cut("refused")
        redis_falls_silent(seconds=0.5)
        closing = asyncio.create_task(settling.close(call, finished(call)))
        await asyncio.sleep(0.3)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await background.drain()
        assert house.counter("org") == {"spent": 0, "held": CHARGED}
        wire.mode = "through"
        await until(nothing_waits)

    as_wired_worker(work)
    assert all_is_settled(house)


def test_an_answer_whose_hold_is_shrunk_too_slowly_for_a_process_that_ends_is_free(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller is told that the gateway stops."""
    monkeypatch.setattr(ending, "is_cut", False)

    async def work(wire: Wire) -> None:
        call = await admitted(house)
        wire.cut("refused")
        redis_falls_silent(seconds=0.5)
        closing = asyncio.create_task(settling.close(call, finished(call)))
        await asyncio.sleep(0.3)
        assert spool.backlog().rows == 1
        ending.is_cut = True
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    as_wired_worker(work)
    as_worker(until(nothing_waits))

    assert all_is_settled(house, spent=0)
    (row,) = house.rows()
    assert (row.http_status, row.charged_nano_usd, row.absorbed_nano_usd) == (503, 0, CHARGED)


def test_an_insert_that_was_committed_and_not_answered_is_settled_with_what_stands_there(house: House) -> None:
    """PostgreSQL commits, its answer is lost, and then it is away: the row is spooled although it is there."""

    with rows.other_connection() as other:

        async def work(wire: Wire) -> None:
            call = await admitted(house)
            wire.mode = "lose the next answer, then refuse"
            await settling.close(call, finished(call))
            found = other.execute("SELECT FROM billing_usagerecord WHERE call_id = %s", [call.id])
            assert (found.rowcount, spool.backlog().rows) == (1, 1)
            wire.mode = "through"
            await until(nothing_waits)

        as_wired_worker(work)

    assert all_is_settled(house)
    assert len(house.rows()) == 1


def test_rows_of_an_old_try_are_counted_anew_instead_of_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled, not forgotten: the worker died before it could empty its file, and nobody came for longer than tombstones live."""

    async def work(wire: Wire) -> str:
        call = await admitted(house)
        wire.cut("refused")
        await settling.close(call, finished(call))
        own = ledger.current().spool
        kept = own.path.read_bytes()
        wire.mode = "through"
        await until(nothing_waits)
        (own.path.parent / "gone.spool").write_bytes(kept)
        name = counters.tombstone(house.organization.pk, house.token, call.id)
        redis.client().delete(name)
        monkeypatch.setattr(draining, "CERTAIN", timedelta(seconds=-1))
        await until(nothing_waits)
        again = await admitted(house)  # loads the counters
        assert again.held is not None
        await admission.release(again.held)
        return str(call.id)

    as_wired_worker(work)
    assert all_is_settled(house)
    assert len(house.rows()) == 1


def test_while_counters_are_read_anew_the_hold_still_counts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else others could spend, between the two, what this row has spent."""
    unload, held = loading.unload, list[int]()

    async def watched(organization_id: int, subjects: Sequence[str]) -> None:
        await unload(organization_id, subjects)
        held.append(house.counter("org")["held"])

    monkeypatch.setattr(loading, "unload", watched)
    monkeypatch.setattr(draining, "CERTAIN", timedelta(seconds=-1))
    monkeypatch.setattr(admission, "TOMBSTONE_SECONDS", -1)

    async def work(wire: Wire) -> None:
        late, call = await admitted(house), await admitted(house)
        settling.close_later(late, finished(late))
        await until(lambda: held)
        assert late.held is not None
        assert call.held is not None
        assert held == [late.held.amount_nano_usd + call.held.amount_nano_usd]
        wire.cut("refused")
        await settling.close(call, finished(call))
        wire.mode = "through"
        await until(nothing_waits)
        assert held[1:] == [CHARGED]
        again = await admitted(house)  # loads the counters
        assert again.held is not None
        await admission.release(again.held)

    as_wired_worker(work)
    assert all_is_settled(house, spent=2 * CHARGED)


def test_a_row_the_ledger_refuses_frees_the_budget_and_is_kept_for_a_person(house: House, folder: Path) -> None:
    async def work(wire: Wire) -> None:
        call, other = await admitted(house), await admitted(house)
        wire.cut("refused")
        bad = finished(call)
        bad.latency_ms = 10**12  # beyond the column
        await settling.close(call, bad)
        await settling.close(other, finished(other))
        wire.mode = "through"
        await until(nothing_waits)

    as_wired_worker(work)

    assert all_is_settled(house)
    assert len(house.rows()) == 1
    assert len((folder / "refused.lines").read_bytes().splitlines()) == 1


def test_a_row_whose_call_was_closed_by_others_is_dropped_and_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with rows.other_connection() as other:

        async def work(wire: Wire) -> None:
            call = await admitted(house)
            wire.cut("refused")
            await settling.close(call, finished(call))
            rows.insert(house.organization.pk, into=other, call_id=call.id, status="abandoned")
            other.commit()
            wire.mode = "through"
            await until(nothing_waits)

        as_wired_worker(work)

    assert all_is_settled(house, spent=0)
    assert "closed_by_others" in caplog.text


# --- the dead ----------------------------------------------------------------------------------
def left_by_an_orderly_end(house: House) -> Call:
    async def work(wire: Wire) -> Call:
        call = await admitted(house)
        wire.cut("refused")
        await settling.close(call, finished(call))
        return call

    call: Call = as_wired_worker(work)
    assert house.counter("org") == {"spent": 0, "held": CHARGED}
    assert spool.pending_of_the_dead()
    return call


def test_an_orderly_end_while_postgresql_is_away_leaves_the_file_to_the_next_worker(house: House) -> None:
    left_by_an_orderly_end(house)

    as_worker(until(nothing_waits))

    assert all_is_settled(house)
    assert spool.backlog().rows == 0


def test_a_hold_of_a_spooled_row_is_not_abandoned_though_its_worker_is_gone(house: House, folder: Path) -> None:
    left_by_an_orderly_end(house)
    elsewhere = folder.rename(folder.with_name("disk of another host"))

    assert resolve_holds() == 0
    assert house.counter("org") == {"spent": 0, "held": CHARGED}
    assert house.rows() == []

    elsewhere.rename(folder)
    assert resolve_holds() == 0
    assert all_is_settled(house)
    assert [row.charged_nano_usd for row in house.rows()] == [CHARGED]


def test_any_number_may_drain_what_the_dead_left(house: House) -> None:
    for _ in range(3):
        call = as_wired_worker(_one_more(house))
        assert call
    assert house.counter("org") == {"spent": 0, "held": 3 * CHARGED}

    async def work() -> list[int]:
        return await asyncio.gather(*(draining.drain_the_dead() for _ in range(4)))

    as_worker(work())
    resolve_holds()

    assert all_is_settled(house, spent=3 * CHARGED)
    assert len(house.rows()) == 3


def test_one_worker_alone_begins_a_generation_though_several_dead_left_rows(house: House) -> None:
    """All workers of a host died while PostgreSQL was away, and Redis has forgotten what they held: no counter comes into force
    before every row is written, and none of them can be settled before that."""
    for _ in range(3):
        as_wired_worker(_one_more(house))
    redis.client().delete(counters.GENERATION)

    async def work() -> None:
        await until(nothing_waits)
        call = await admitted(house)
        assert call.held is not None
        assert house.counter("org") == {"spent": 3 * CHARGED, "held": call.held.amount_nano_usd}
        await admission.release(call.held)

    as_worker(work())

    assert not house.held()
    assert len(house.rows()) == 3


def _one_more(house: House) -> Any:
    async def work(wire: Wire) -> Call:
        call = await admitted(house)
        wire.cut("refused")
        await settling.close(call, finished(call))
        return call

    return work


def test_a_file_that_cannot_be_drained_keeps_no_other_waiting(
    house: House, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its refused row finds no place to be kept in: it waits for a person, and the rest goes on."""
    left_by_an_orderly_end(house)
    gone = left_by_a_dead_worker(house)
    bad = recording.cancelled(gone)
    bad.latency_ms = 10**12  # beyond the column
    stuck = folder / "0.left"
    stuck.write_bytes(spool.encode(spool.Entry(bad, [])))
    (folder / "refused.lines").mkdir()

    assert resolve_holds() == 1

    assert all_is_settled(house)
    assert sorted((row.call_id != gone.id, row.status) for row in house.rows()) == [(False, "abandoned"), (True, "cancelled")]
    assert stuck.exists()
    assert "IsADirectoryError" in caplog.text

    (folder / "refused.lines").rmdir()
    as_worker(until(lambda: not stuck.exists()))


def left_by_a_dead_worker(house: House) -> Call:
    call: Call = as_worker(admitted(house))
    return call


# --- killed at each step -----------------------------------------------------------------------
STEPS = {
    "before the row is on the disk": ("billing/spool.py", "_write", "call"),
    "after the row is on the disk": ("billing/spool.py", "_write", "return"),
    "after the hold was shrunk": ("billing/spool.py", "decide", "call"),
    "before the row is replayed": ("billing/replaying.py", "_write", "call"),
    "after the replay, before the hold is settled": ("proxy/draining.py", "_settle", "call"),
    "after the hold was settled": ("guardrails/leases.py", "forget", "call"),
    "before the file is emptied": ("billing/spool.py", "_cut", "call"),
}
NOT_ANSWERED = {"before the row is on the disk": "abandoned", "after the row is on the disk": "failed"}


Dies = Callable[..., list[str]]


@pytest.fixture
def dies(house: House, folder: Path, forks: Forks) -> Dies:
    """Runs tests/proxy/dying.py until it has killed itself → what it told."""

    def dies(step: tuple[str, str, str], *, what: str) -> list[str]:
        variables = {**os.environ, "DATABASE_URL": database_url_of_tests(), "SPOOL_FOLDER": str(folder)}
        argv = [sys.executable, "-m", "tests.proxy.dying", *step, house.key_text, what]
        with begun(argv, variables, forks) as process:
            assert process.stdout is not None
            said = process.stdout.read().decode()
            assert process.wait(40) == -signal.SIGKILL, said[-2000:]
        lines = [line.removeprefix(dying.TOLD) for line in said.splitlines() if line.startswith(dying.TOLD)]
        redis.client().delete(counters.worker(lines[0]))  # its lease would run out in some seconds
        return lines

    return dies


def begun(argv: list[str], variables: dict[str, str], forks: Forks) -> subprocess.Popen[bytes]:
    if FORKS:
        return forks.fork(argv, variables=variables, descriptors=[])
    return subprocess.Popen(argv, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_any_step_loses_nothing_and_charges_nothing_twice(house: House, dies: Dies, step: str) -> None:
    lines = dies(STEPS[step], what="spool")
    assert ("answered" in lines) == (step not in NOT_ANSWERED and step != "after the hold was shrunk")

    for _ in range(2):
        resolve_holds()

    (row,) = UsageRecord.objects.filter(organization=house.organization)
    assert str(row.call_id) == lines[1]
    expected = ("cancelled", CHARGED) if step not in NOT_ANSWERED else (NOT_ANSWERED[step], 0)
    assert (row.status, row.charged_nano_usd) == expected
    assert house.held() == {}
    assert house.counter("org") == {"spent": expected[1], "held": 0}
    assert spool.backlog().rows == 0


DRAINING = [
    "before the row is replayed",
    "after the replay, before the hold is settled",
    "after the hold was settled",
    "before it is known that all is written",
    "before the file is removed",
]


LAST = {
    "before it is known that all is written": ("billing/spool.py", "written", "call"),
    "before the file is removed": ("billing/spool.py", "remove", "call"),
}


@pytest.mark.parametrize("step", DRAINING)
def test_whoever_drains_for_the_dead_may_die_as_well(house: House, dies: Dies, step: str) -> None:
    left_by_an_orderly_end(house)
    dies({**STEPS, **LAST}[step], what="drain")
    assert spool.backlog().rows == 1

    for _ in range(2):
        resolve_holds()

    assert [row.charged_nano_usd for row in house.rows()] == [CHARGED]
    assert house.held() == {}
    assert house.counter("org") == {"spent": CHARGED, "held": 0}
    assert spool.backlog().rows == 0
