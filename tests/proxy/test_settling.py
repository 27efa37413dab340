"""The end of a call where Redis or the ledger fail in between: what the caller is told, and nothing lost or counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import msgspec
import pytest
from pytest_django import Settings

from billing import ledger
from billing.ledger import Row
from gateway_project.lib import ids, redis, tended
from guardrails import admission
from guardrails.admission import Admitted
from proxy import background, draining, recording, settling
from proxy.call import Call
from proxy.errors import BudgetExceeded, GuardrailsUnavailable
from tests.billing import rows
from tests.billing.test_dying_committer import WAITS_FOR_A_LOCK, comes_true
from tests.billing.test_ledger import unmade_month
from tests.coroutines import as_wired_worker, as_worker, kill
from tests.house import House, eventually
from tests.proxy.calls import admitted
from tests.wire import Wire

CHARGED = 1234
Look = Callable[[str], Awaitable[None]]


def finished(call: Call) -> Row:
    row = recording.cancelled(call)
    row.charged_nano_usd = row.list_nano_usd = CHARGED
    return row


@pytest.fixture
def impatient(settings: Settings) -> None:
    """Redis is taken for away after a fifth of a second."""
    settings.GUARDRAILS_TIMEOUT_SECONDS = 0.2


def redis_falls_silent(*, seconds: float) -> None:
    """Redis takes commands and answers none of them that long."""
    redis.client().execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")  # type: ignore[no-untyped-call]


def settled_once(house: House) -> bool:
    return bool(eventually(lambda: not house.held() and house.counter("org") == {"spent": CHARGED, "held": 0}))


def test_a_hold_becomes_the_charge_on_every_subject_and_no_other(house: House) -> None:
    async def work() -> Call:
        call = await admitted(house)
        assert call.held is not None
        assert call.held.amount_nano_usd > CHARGED
        await settling.close(call, finished(call))
        return call

    call: Call = as_worker(work())

    assert settled_once(house)
    assert call.held is not None
    for subject in call.held.subjects:
        assert house.counter(subject) == {"spent": CHARGED, "held": 0}, subject
    assert house.counter(f"g{house.world.sales.pk}") == {"spent": 0, "held": 0}


def test_a_call_of_a_month_that_nobody_made_a_partition_for_is_charged_and_settled_like_any(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Background work has stood still for months."""
    month = unmade_month()
    monkeypatch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: int(month.timestamp()) * 10**9))

    async def work() -> None:
        for _ in range(2):
            call = await admitted(house)
            assert ids.time_of(call.id) == month
            await settling.close(call, finished(call))

    as_worker(work())

    assert eventually(lambda: not house.held() and house.counter("org") == {"spent": 2 * CHARGED, "held": 0})
    assert [row.charged_nano_usd for row in house.rows()] == [CHARGED] * 2


def test_a_call_counts_in_the_window_into_which_redis_admitted_it_though_postgresqls_clock_be_behind(house: House) -> None:
    """Else the new window would begin with what it spends itself, and never be used up while the clocks differ."""

    async def work() -> Admitted:
        call = await admitted(house)
        assert call.held is not None
        ahead = msgspec.structs.replace(call.held, admitted_ms=call.held.admitted_ms + 60_000)
        call.held = ahead
        await settling.close(call, finished(call))
        return ahead

    ahead = as_worker(work())
    (row,) = house.rows()
    assert row.recorded_at.timestamp() * 1000 == pytest.approx(ahead.admitted_ms, abs=0.5)
    assert settled_once(house)


def test_when_it_returns_the_row_is_durable(house: House) -> None:
    async def work() -> Call:
        call = await admitted(house)
        await settling.close(call, finished(call))
        return call

    (row,) = [row for call in [as_worker(work())] for row in house.rows() if row.call_id == call.id]
    assert (row.charged_nano_usd, row.reserved_nano_usd > CHARGED) == (CHARGED, True)


def test_a_call_without_a_hold_is_recorded_all_the_same(house: House) -> None:
    async def work() -> None:
        call = await admitted(house)
        assert call.held is not None
        await admission.release(call.held)
        call.held = None
        settling.close_later(call, recording.refused(call, BudgetExceeded()))

    as_worker(work())

    assert [row.status for row in house.rows()] == ["refused"]
    assert house.counter("org") == {"spent": 0, "held": 0}


def test_redis_away_after_the_row_the_answer_goes_out_and_the_hold_follows(house: House, impatient: None) -> None:
    async def work() -> None:
        call = await admitted(house)
        redis_falls_silent(seconds=0.7)
        await settling.close(call, finished(call))  # does not raise: the row stands
        await background.drain()

    as_worker(work())

    assert settled_once(house)
    assert len(house.rows()) == 1


def test_a_hold_without_a_caller_waits_for_redis_too(house: House, impatient: None) -> None:
    async def work() -> None:
        call = await admitted(house)
        redis_falls_silent(seconds=0.7)
        settling.close_later(call, finished(call))
        await background.drain()

    as_worker(work())

    assert settled_once(house)


def test_a_caller_who_leaves_while_the_row_is_written_is_settled_behind_it(house: House) -> None:
    async def work() -> None:
        call = await admitted(house)
        closing = asyncio.create_task(settling.close(call, finished(call)))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await background.drain()

    as_worker(work())

    assert settled_once(house)
    assert len(house.rows()) == 1


@pytest.mark.parametrize("later", [False, True], ids=["awaited", "later"])
def test_a_row_that_somebody_else_wrote_is_theirs_to_settle(house: House, later: bool) -> None:
    async def work() -> None:
        call = await admitted(house)
        await ledger.current().record(recording.cancelled(call), [])
        if later:
            settling.close_later(call, finished(call))
        else:
            with pytest.raises(GuardrailsUnavailable, match="nothing was charged"):
                await settling.close(call, finished(call))
        await background.drain()
        assert house.counter("org")["held"] > 0
        assert call.held is not None
        await admission.release(call.held)

    as_worker(work())

    assert [row.charged_nano_usd for row in house.rows()] == [0]
    assert house.counter("org") == {"spent": 0, "held": 0}


@pytest.mark.parametrize("later", [False, True], ids=["awaited", "later"])
def test_a_ledger_that_takes_no_more_withholds_the_answer_and_frees_the_budget(house: House, later: bool) -> None:
    async def work() -> None:
        call = await admitted(house)
        await ledger.current().close()
        if later:
            settling.close_later(call, finished(call))
        else:
            with pytest.raises(GuardrailsUnavailable, match="no more rows"):
                await settling.close(call, finished(call))
        await background.drain()

    as_worker(work())

    assert house.rows() == []
    assert house.counter("org") == {"spent": 0, "held": 0}
    assert house.held() == {}


def test_a_row_the_ledger_refuses_frees_the_budget(house: House) -> None:
    async def work() -> None:
        call = await admitted(house)
        row = finished(call)
        row.latency_ms = 10**12  # beyond the column
        with pytest.raises(GuardrailsUnavailable):
            await settling.close(call, row)
        await background.drain()

    as_worker(work())

    assert house.rows() == []
    assert house.held() == {}


def test_giving_up_frees_what_an_unanswered_admission_may_hold(house: House) -> None:
    async def work() -> None:
        call = await admitted(house)
        call.held = None  # the answer never came
        await settling.give_up(call)
        await settling.give_up(call)

    as_worker(work())

    assert house.held() == {}
    assert house.counter("org") == {"spent": 0, "held": 0}


def test_giving_up_what_was_never_admitted_changes_nothing(house: House) -> None:
    async def work() -> None:
        running = await admitted(house)
        other = Call("chat_completions", running.caller)
        await settling.give_up(other)
        assert isinstance(running.held, Admitted)
        assert house.counter("org") == {"spent": 0, "held": running.held.amount_nano_usd}
        await settling.close(running, finished(running))

    as_worker(work())

    assert settled_once(house)


def test_calls_that_end_together_all_count(house: House) -> None:
    async def work() -> None:
        calls = [await admitted(house) for _ in range(25)]
        await asyncio.gather(*(settling.close(call, finished(call)) for call in calls[:15]))
        for call in calls[15:]:
            settling.close_later(call, finished(call))
        await background.drain()

    as_worker(work())

    assert house.held() == {}
    assert house.counter("org") == {"spent": 25 * CHARGED, "held": 0}
    assert len({row.call_id for row in house.rows()}) == 25


# --- background --------------------------------------------------------------------------------
def test_work_in_the_background_is_finished_before_the_worker_ends() -> None:
    done: list[str] = []

    async def slowly(name: str) -> None:
        await asyncio.sleep(0.05)
        done.append(name)

    async def work() -> None:
        for name in ("a", "b", "c"):
            background.run(slowly(name), of=name)
        assert done == []
        await background.drain()

    asyncio.run(work())
    assert sorted(done) == ["a", "b", "c"]


def test_a_failure_in_the_background_takes_nothing_else_down() -> None:
    done: list[str] = []

    async def fails() -> None:
        raise ValueError(str(uuid4()))

    async def works() -> None:
        done.append("works")

    async def work() -> None:
        background.run(fails(), of="fails")
        background.run(works(), of="works")
        await background.drain()
        await background.drain()

    asyncio.run(work())
    assert done == ["works"]


def test_an_answer_that_had_to_be_withheld_is_free_though_its_row_is_written_later(
    house: House, settings: Settings, tmp_path: Path
) -> None:
    """PostgreSQL falls silent, the disk takes nothing: the caller gets 503, so the cost is the operator's."""
    settings.LEDGER_TIMEOUT_SECONDS = 0.5
    settings.SPOOL_FOLDER = tmp_path / "a file" / "spool"
    (tmp_path / "a file").touch()

    async def work(wire: Wire) -> Call:
        call = await admitted(house)
        wire.cut("refused")
        with pytest.raises(GuardrailsUnavailable, match="withheld"):
            await settling.close(call, finished(call))
        wire.mode = "through"
        settings.LEDGER_TIMEOUT_SECONDS = 5
        await background.drain()
        return call

    call: Call = as_wired_worker(work)

    assert house.nothing_held()
    row = house.row_of(str(call.id))
    assert (row.status, row.http_status, row.charged_nano_usd, row.absorbed_nano_usd) == ("failed", 503, 0, CHARGED)
    assert house.counter("org") == {"spent": 0, "held": 0}


# --- told 503, and committed all the same --------------------------------------------------------
@pytest.fixture
def looked_at(house: House) -> Iterator[Look]:
    """Waits until a query finds something, in a session of its own."""
    with rows.other_connection() as watching:
        watching.autocommit = True

        async def until(query: str) -> None:
            async with asyncio.timeout(10):
                while not await asyncio.to_thread(lambda: watching.execute(query.encode()).fetchone()):
                    await asyncio.sleep(0.01)

        yield until


async def told_too_early(call: Call, settings: Settings) -> asyncio.Task[None]:
    """Its caller soon loses patience; the committer, which reads the settings a moment later, has all the time there is."""
    settings.LEDGER_TIMEOUT_SECONDS = 0.2
    closing = asyncio.create_task(settling.close(call, finished(call)))
    await asyncio.sleep(0)
    settings.LEDGER_TIMEOUT_SECONDS = 60
    return closing


async def is_withheld(closing: asyncio.Task[None]) -> None:
    with pytest.raises(GuardrailsUnavailable, match="withheld"):
        await closing


def assert_taken_back(house: House, call: Call) -> None:
    of_call = [row for row in house.rows() if call.id in (row.call_id, row.adjusts)]
    assert sorted(row.status for row in of_call) == ["adjustment", "cancelled"]
    assert sorted(row.charged_nano_usd for row in of_call) == [-CHARGED, CHARGED]
    assert (sum(row.list_nano_usd for row in of_call), sum(row.absorbed_nano_usd for row in of_call)) == (0, CHARGED)
    assert house.nothing_held()
    assert eventually(lambda: house.counter("org")["spent"] == 0)


def test_a_row_that_was_being_committed_as_its_caller_was_told_503_is_taken_back(
    house: House, settings: Settings, looked_at: Look
) -> None:
    """Another session holds its id, so that the statement is sent, and commits only when the caller has gone."""

    async def work() -> Call:
        before, call = await admitted(house), await admitted(house)
        await settling.close(before, recording.failed(before, error=GuardrailsUnavailable()))
        with rows.other_connection() as other:
            rows.insert(house.organization.pk, into=other, call_id=call.id, status="abandoned")
            closing = await told_too_early(call, settings)
            await looked_at(WAITS_FOR_A_LOCK)
            await is_withheld(closing)
            await asyncio.to_thread(other.rollback)
        await background.drain()
        return call

    assert_taken_back(house, as_worker(work()))


def test_a_row_whose_committer_died_between_its_commit_and_the_word_of_it_is_taken_back(
    house: House, settings: Settings, tmp_path: Path, looked_at: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next committer finds the row withheld meanwhile, and spools it as free; what stands in the ledger is not."""
    settings.SPOOL_FOLDER = tmp_path / "spool"
    monkeypatch.setattr(tended, "FIRST_SECONDS", 1.0)

    async def work(wire: Wire) -> Call:
        before, call = await admitted(house), await admitted(house)
        await settling.close(before, recording.failed(before, error=GuardrailsUnavailable()))
        wire.mode = "silent"
        closing = await told_too_early(call, settings)
        await looked_at(f"SELECT 1 FROM billing_usagerecord WHERE call_id = '{call.id}'")  # noqa: S608 - a UUID
        assert kill("ledger committer")
        await is_withheld(closing)
        wire.cut("through")
        await comes_true(lambda: ledger.current().spool.rows == 1)
        await comes_true(lambda: ledger.current().away_since is None)
        await comes_true(lambda: not ledger.current().spool.rows)
        await draining.drain_own()
        await background.drain()
        return call

    assert_taken_back(house, as_wired_worker(work))
