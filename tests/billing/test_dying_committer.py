"""The ledger's committer dies in the middle of its work: every row has an outcome, is durable once, and others follow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pytest_django import Settings

from billing import ledger, spool
from billing.ledger import Outcome, Recorded, Row, RowRefused, Spooled
from billing.models import UsageRecord
from billing.spool import Entry
from gateway_project.lib import database, ids, tended
from proxy import draining
from tests.billing import rows
from tests.coroutines import kill, with_lease
from tests.wire import wired

WAITS_FOR_A_LOCK = """
SELECT 1 FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '%INSERT INTO billing_usagerecord%'
"""

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture(autouse=True)
def quick_and_alone(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool of these tests' own, and no long pause after a death."""
    settings.SPOOL_FOLDER = tmp_path / "spool"
    monkeypatch.setattr(tended, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(tended, "MOST_SECONDS", 0.02)


@pytest.fixture(scope="module")
def organization(django_db_setup: None, django_db_blocker: Any) -> int:
    with django_db_blocker.unblock():
        return int(rows.new_organization().pk)


@pytest.fixture
def make(organization: int) -> Callable[..., Row]:
    def row(**fields: Any) -> Row:
        call_id = ids.new_call_id()
        values: dict[str, Any] = {
            "organization_id": organization, "group0_id": 1, "api_key_id": 9_000_002, "protocol": "chat_completions",
            "status": "ok", "http_status": 200, "charged_nano_usd": 5,
        }  # fmt: skip
        return Row(call_id=call_id, admitted_at=ids.time_of(call_id), **(values | fields))

    return row


async def comes_true(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.005)


async def outcomes(*of: Row) -> list[Outcome | BaseException]:
    """In bounded time, of calls that end at the same moment."""
    waiting = [ledger.current().record_later(row, []) for row in of]
    async with asyncio.timeout(15):
        return await asyncio.gather(*waiting, return_exceptions=True)


async def on_disk() -> list[UUID]:
    own = ledger.current().spool
    if not own.size:
        return []
    found, _ = await own.next_batch(until=own.size)
    return [entry.row.call_id for entry in found]


def in_ledger(*of: Row) -> list[int]:
    """What was charged for each, by PostgreSQL alone."""
    found = UsageRecord.objects.filter(call_id__in=[row.call_id for row in of])
    return [record.charged_nano_usd for record in found]


def test_a_row_that_kills_the_committer_is_refused_and_takes_no_other_with_it(make: Callable[..., Row]) -> None:
    """Nothing can carry this row; whoever tries finds out in the middle of a batch."""
    deadly, good, later = make(decision={"limit": object()}), [make() for _ in range(4)], make()

    async def work() -> None:
        *kept, refused = await outcomes(*good, deadly)
        assert isinstance(refused, RowRefused)
        assert kept == [Spooled(5)] * 4
        assert ledger.takes_calls()
        (after,) = await outcomes(later)
        assert isinstance(after, Recorded)
        assert await draining.drain_own() == 4

    with_lease(work())

    assert in_ledger(*good, later) == [5] * 5
    assert in_ledger(deadly) == []


@pytest.fixture
def looked_at(make: Callable[..., Row]) -> Iterator[Callable[[str], Awaitable[None]]]:
    """Waits until a query is true, asked by a session of its own that no wire lies before."""
    with psycopg.connect(database.conninfo(), autocommit=True) as watching:

        async def until(query: str) -> None:
            async with asyncio.timeout(10):
                while not (await asyncio.to_thread(lambda: watching.execute(query.encode()).fetchone())):
                    await asyncio.sleep(0.01)

        yield until


async def rolls_back(other: Any) -> None:
    await asyncio.to_thread(other.rollback)


async def commits(other: Any) -> None:
    await asyncio.to_thread(other.commit)


@pytest.mark.parametrize(("other_ends", "charged"), [(rolls_back, 5), (commits, 0)])
def test_killed_in_the_middle_of_its_statement_it_leaves_nothing_pending(
    make: Callable[..., Row],
    looked_at: Callable[[str], Awaitable[None]],
    other_ends: Callable[[Any], Awaitable[None]],
    charged: int,
) -> None:
    """Another session holds the call's id: the insert stands still, whoever kills the committer finds it there."""
    one, mate = make(), make()
    with rows.other_connection() as other:
        rows.insert(one.organization_id, into=other, call_id=one.call_id, status="abandoned")

        async def work() -> None:
            await outcomes(make())  # connected
            ending = asyncio.create_task(outcomes(one, mate))
            await looked_at(WAITS_FOR_A_LOCK)
            assert kill("ledger committer")
            assert await ending == [Spooled(5), Spooled(5)]
            await other_ends(other)
            assert await draining.drain_own() == 2

        with_lease(work())

    assert sorted(in_ledger(one, mate)) == sorted([charged, 5])


def test_what_was_committed_and_not_answered_when_it_died_is_not_written_again(
    make: Callable[..., Row], looked_at: Callable[[str], Awaitable[None]]
) -> None:
    one = make()

    async def work() -> None:
        async with wired() as wire:
            await outcomes(make())
            wire.mode = "silent"  # what is sent arrives, and nobody hears of it
            ending = asyncio.create_task(outcomes(one))
            await looked_at(f"SELECT 1 FROM billing_usagerecord WHERE call_id = '{one.call_id}'")  # noqa: S608 - a UUID
            assert kill("ledger committer")
            assert await ending == [Spooled(5)]
            wire.cut("through")
            await comes_true(lambda: ledger.current().away_since is None)
            assert await draining.drain_own() == 1

    with_lease(work())

    assert in_ledger(one) == [5]


@pytest.mark.parametrize("away", [False, True], ids=["with PostgreSQL", "without"])
def test_killed_again_and_again_under_load_it_loses_and_doubles_nothing(make: Callable[..., Row], away: bool) -> None:
    many = [make() for _ in range(120)]

    async def work() -> None:
        async with wired() as wire:
            if away:
                wire.mode = "refused"
                await outcomes(make())
            ending = [asyncio.create_task(outcomes(row)) for row in many]
            killed = 0
            while not all(task.done() for task in ending):
                killed += kill("ledger committer") if killed < 25 else 0
                await asyncio.sleep(0.0007)
            found = [task.result()[0] for task in ending]
            own = ledger.current().spool
            assert killed > 2
            assert all(isinstance(outcome, Recorded | Spooled) for outcome in found), found
            assert own.size == (own.path.stat().st_size if own.size else 0), "what is known of the file is true"
            assert {row.call_id for row, one in zip(many, found, strict=True) if one == Spooled(5)} <= set(await on_disk())
            wire.cut("through")
            await comes_true(lambda: ledger.current().away_since is None)
            await draining.drain_own()

    with_lease(work())

    assert in_ledger(*many) == [5] * len(many)
    assert spool.backlog().rows == 0


def test_where_the_disk_takes_nothing_the_next_one_asks_postgresql_again(
    make: Callable[..., Row], settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    settings.SPOOL_FOLDER = tmp_path / "a file" / "spool"
    deadly, good = make(decision={"limit": object()}), make()

    async def work() -> None:
        refused, kept = await outcomes(deadly, good)
        assert isinstance(refused, RowRefused)
        assert isinstance(kept, Recorded)

    with_lease(work())

    assert in_ledger(good, deadly) == [5]


def test_while_it_is_dead_no_call_begins_and_rows_of_those_that_run_are_kept(
    make: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tended, "FIRST_SECONDS", 0.5)
    one = make()

    async def work() -> None:
        await outcomes(make())
        assert ledger.takes_calls()
        assert kill("ledger committer")
        await asyncio.sleep(0)
        assert not ledger.takes_calls()
        (outcome,) = await outcomes(one)
        assert isinstance(outcome, Recorded)
        assert ledger.takes_calls()

    with_lease(work())

    assert in_ledger(one) == [5]


def test_without_postgresql_and_disk_no_call_begins_until_either_is_back(
    make: Callable[..., Row], settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    settings.SPOOL_FOLDER = tmp_path / "a file" / "spool"
    one = make()

    async def work() -> None:
        assert ledger.takes_calls(), "one that is not open yet"
        async with wired() as wire:
            wire.mode = "refused"
            ending = asyncio.create_task(outcomes(one))
            await comes_true(lambda: not ledger.takes_calls())
            wire.mode = "through"
            assert isinstance((await ending)[0], Recorded)
            assert ledger.takes_calls()

    with_lease(work())


def test_whoever_says_that_this_writer_lives_is_replaced_too(make: Callable[..., Row]) -> None:
    """Dead, it would never find PostgreSQL again, and others would fence a writer that says nothing."""

    async def work() -> None:
        async with wired() as wire:
            await outcomes(make())
            assert kill("ledger watch")
            wire.cut("refused")
            assert await outcomes(make()) == [Spooled(5)]
            wire.cut("through")
            await comes_true(lambda: ledger.current().away_since is None)
            assert await draining.drain_own() == 1

    with_lease(work())


def test_an_append_whose_waiter_is_killed_is_finished_before_the_next(make: Callable[..., Row]) -> None:
    """A file that is longer than it is thought to be would be emptied with rows in it."""
    first, second = make(), make()

    async def work() -> None:
        own = spool.Spool("w1")
        waiting = asyncio.create_task(own.append([spool.encode(Entry(first, []))]))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(10):
            await own.append([spool.encode(Entry(second, []))])
        found, end = await own.next_batch(until=own.size)
        assert [entry.row.call_id for entry in found] == [first.call_id, second.call_id]
        assert (own.rows, own.size, end) == (2, own.path.stat().st_size, own.size)
        own.close()

    asyncio.run(work())
