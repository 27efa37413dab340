"""The spool's files: what was said to be durable is read back whole, what is torn is dropped, and a lock tells whose it is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from billing import spool
from billing.rows import Attempt, Row
from billing.spool import Entry, Spool, SpoolFull
from gateway_project.lib import ids

ROOT = Path(__file__).resolve().parent.parent.parent
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.SPOOL_FOLDER = tmp_path / "spool"
    return tmp_path / "spool"


def entry(number: int = 1, **fields: Any) -> Entry:
    call_id = ids.call_id_at(NOW, random_bits=number)
    row = Row(
        call_id=call_id,
        admitted_at=ids.time_of(call_id),
        organization_id=1,
        group0_id=2,
        api_key_id=3,
        protocol="chat_completions",
        **{"status": "ok", "http_status": 200, **fields},
    )
    return Entry(row, [Attempt(call_id, 1, 5, "openai", "gpt", "ok", 200, "", 12)], ("k3", "org", "pool"))


def entries(count: int) -> list[Entry]:
    return [entry(number) for number in range(1, count + 1)]


async def read(lines: spool.Lines, *, until: int = 1 << 30) -> list[Entry]:
    found, _ = await lines.next_batch(until=until)
    return found


# --- lines -------------------------------------------------------------------------------------
texts = st.text(st.characters(codec="utf-8"), max_size=40)
amounts = st.integers(-(2**63), 2**63 - 1)


@given(texts, texts, amounts, st.dictionaries(texts, st.one_of(texts, amounts, st.none(), st.booleans()), max_size=4))
def test_a_row_comes_back_as_it_was(model: str, error: str, charged: int, decision: dict[str, Any]) -> None:
    one = entry(served_model=model, error_code=error, charged_nano_usd=charged, decision=decision)
    line = spool.encode(one)
    assert line.count(b"\n") == 1
    assert spool.decode(line) == one


@given(st.uuids())
def test_what_was_withheld_comes_back(call_id: UUID) -> None:
    assert spool.decode(spool.encode_withheld(call_id)) == call_id


@given(texts, st.data())
def test_a_torn_line_is_no_line(model: str, data: st.DataObject) -> None:
    line = spool.encode(entry(served_model=model))
    assert spool.decode(line[: data.draw(st.integers(0, len(line) - 1))]) is None


@given(texts, st.data(), st.integers(1, 255))
def test_a_changed_line_is_no_line(model: str, data: st.DataObject, change: int) -> None:
    line = bytearray(spool.encode(entry(served_model=model)))
    line[data.draw(st.integers(0, len(line) - 1))] ^= change
    assert spool.decode(bytes(line)) is None


@given(st.binary(max_size=200))
def test_noise_is_no_line(noise: bytes) -> None:
    assert spool.decode(noise + b"\n") is None


# --- one's own file ----------------------------------------------------------------------------
def test_what_was_appended_is_there_in_its_order() -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(one) for one in entries(3)])
        await own.append([spool.encode(entry(4))])
        assert (own.rows, own.size) == (4, own.path.stat().st_size)
        assert await read(own, until=own.size) == entries(4)
        own.close()

    asyncio.run(work())


def test_a_folder_is_made_for_its_owner_alone(folder: Path) -> None:
    async def work() -> None:
        own = Spool("w1")
        assert not folder.exists()
        await own.append([spool.encode(entry())])
        assert [oct(path.stat().st_mode & 0o777) for path in (folder, own.path)] == ["0o700", "0o600"]
        own.close()

    asyncio.run(work())


def test_long_files_are_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BATCH", 2)

    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(one) for one in entries(5)])
        sizes = []
        while own.drained < own.size:
            found, own.drained = await own.next_batch(until=own.size)
            sizes.append(len(found))
        assert sizes == [2, 2, 1]
        own.close()

    asyncio.run(work())


def test_it_takes_no_more_than_it_may(settings: Settings) -> None:
    settings.SPOOL_MAX_BYTES = 100

    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(entry())])
        assert own.is_full
        with pytest.raises(SpoolFull):
            await own.append([spool.encode(entry(2))])
        assert own.rows == 1
        own.close()

    asyncio.run(work())


def test_a_batch_that_the_disk_takes_only_half_of_leaves_nothing() -> None:
    """A limit on file sizes stands for a full disk: the write ends after some bytes."""

    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(entry(1))])
        with limited_to(own.size + 300), pytest.raises(OSError, match="too large"):
            await own.append([spool.encode(one) for one in entries(5)])
        assert own.size == own.path.stat().st_size
        await own.append([spool.encode(entry(2))])
        assert await read(own) == entries(2)
        own.close()

    asyncio.run(work())


class limited_to:
    """No file of this process grows beyond so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        import resource

        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.signal)


def test_it_is_emptied_once_everything_is_settled_and_begins_anew() -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(entry(1))])
        first = own.size
        await own.append([spool.encode(entry(2))])
        assert not await own.clear(drained=first), "more has come meanwhile"
        assert own.path.stat().st_size == own.size
        assert await own.clear(drained=own.size)
        assert (own.rows, own.size, own.since, own.path.stat().st_size) == (0, 0, None, 0)
        await own.append([spool.encode(entry(3))])
        assert await read(own) == [entry(3)]
        own.close()

    asyncio.run(work())


def test_it_is_not_emptied_while_an_answer_is_undecided() -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(entry(1))])
        own.undecided.add(entry(1).row.call_id)
        assert not own.is_drainable
        assert not await own.clear(drained=own.size)
        own.decide(entry(1).row.call_id)
        assert await own.clear(drained=own.size)
        own.close()

    asyncio.run(work())


def test_a_withheld_answer_is_known_to_its_worker_and_on_the_disk() -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(one) for one in entries(2)])
        await own.withhold(entry(1).row.call_id)
        assert own.withheld == {entry(1).row.call_id}
        again = spool.Lines(own.path)
        await again.find_withheld()
        assert again.withheld == own.withheld
        assert await read(again) == entries(2)
        own.close()

    asyncio.run(work())


@pytest.mark.parametrize("lost", [1, 9, 200])
def test_a_torn_tail_is_dropped_and_what_stands_before_it_is_kept(lost: int) -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(one) for one in entries(3)])
        os.truncate(own.path, own.size - lost)
        assert await read(own) == entries(2)
        own.close()

    asyncio.run(work())


def test_a_line_that_went_bad_in_the_middle_costs_no_other_and_is_kept_for_a_person(folder: Path) -> None:
    """An answer has gone out on it."""

    async def work() -> bytes:
        own = Spool("w1")
        await own.append([spool.encode(one) for one in entries(3)])
        begin = len(spool.encode(entry(1)))
        with own.path.open("r+b") as file:
            file.seek(begin + 40)
            file.write(b"\x00\x00")
        for _ in range(2):
            assert await read(own) == [entry(1), entry(3)]
        bad = own.path.read_bytes()[begin : -len(spool.encode(entry(3)))]
        own.close()
        return bad

    assert asyncio.run(work()) == (folder / "refused.lines").read_bytes()


@pytest.mark.parametrize("change", [("call_id", "called_id"), ("group0_id", "group_0"), ('"status":"ok"', '"status":5')])
def test_a_row_of_another_version_is_kept_for_a_person_and_stops_nobody(folder: Path, change: tuple[str, str]) -> None:
    """Its checksum is right, but what it says is no row here: a host went back to an older version with rows in its spool."""
    whole = spool.encode(entry(2))
    payload = whole.partition(b" R ")[2].rstrip(b"\n").decode().replace(*change).encode()
    foreign = spool._line(spool.ROW, payload)
    assert foreign != whole

    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(entry(1)), foreign, spool.encode(entry(3))])
        assert await read(own) == [entry(1), entry(3)]
        own.close()

    asyncio.run(work())
    assert (folder / "refused.lines").read_bytes() == foreign


def test_of_a_torn_tail_nobody_needs_to_hear(folder: Path) -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(one) for one in entries(2)])
        os.truncate(own.path, own.size - 5)
        assert await read(own) == entries(1)
        own.close()

    asyncio.run(work())
    assert not (folder / "refused.lines").exists()


def test_a_row_of_an_earlier_version_that_knew_fewer_columns_is_read() -> None:
    """What was added since has a value for those that lack it, or a spool would not outlast an update."""
    needed = {"call_id", "admitted_at", "organization_id", "group0_id", "api_key_id", "protocol", "status", "http_status"}
    fields = msgspec.to_builtins(entry(1))
    fields["row"] = {name: value for name, value in fields["row"].items() if name in needed} | {"column_to_come": 1}
    assert spool.decode(spool._line(spool.ROW, msgspec.json.encode(fields))) == entry(1)


# --- files of others ---------------------------------------------------------------------------
def left_behind(writer: str, count: int = 2) -> Path:
    """What a worker leaves that ended in good order while PostgreSQL was away."""

    async def work() -> Path:
        own = Spool(writer)
        await own.append([spool.encode(one) for one in entries(count)])
        own.close()
        return own.path

    return asyncio.run(work())


def test_a_file_of_the_living_is_nobodys_to_take() -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(entry())])
        assert not spool.pending_of_the_dead()
        assert list(spool.leftovers()) == []
        await spool.close_all()
        assert spool.pending_of_the_dead()

    asyncio.run(work())


def test_what_was_left_is_taken_over_once_and_removed() -> None:
    left_behind("w1")
    left_behind("w2", count=1)
    assert spool.pending_of_the_dead()

    taken = spool.leftovers()
    first = next(taken)
    assert spool.pending_of_the_dead(), "whoever drains it has not finished"
    assert [one.path.name for one in spool.leftovers()] == ["w2.left"], "the first is taken already"
    assert asyncio.run(read(first)) == entries(2)
    first.remove()
    taken.close()
    for one in spool.leftovers():
        one.remove()
    assert not spool.pending_of_the_dead()


def test_one_who_dies_while_draining_is_followed_by_another() -> None:
    left_behind("w1")
    for one in spool.leftovers():
        assert one.path.suffix == ".left"
    assert spool.pending_of_the_dead()
    assert [one.path.name for one in spool.leftovers()] == ["w1.left"]


def test_a_process_that_is_killed_leaves_its_file_to_others(folder: Path) -> None:
    ready = run_apart(folder, "own.append([spool.encode(Entry(row(), []))])")
    process = ready()
    assert not spool.pending_of_the_dead()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert spool.pending_of_the_dead()
    (left,) = [asyncio.run(read(one)) for one in spool.leftovers()]
    assert len(left) == 1


def run_apart(folder: Path, step: str) -> Callable[[], subprocess.Popen[str]]:
    """A process that does one thing to a spool of its own, says so, and waits."""
    program = f"""
import asyncio, os, sys, time
import django; django.setup()
from django.conf import settings
from pathlib import Path
from billing import spool
from billing.spool import Entry, Spool
from billing.rows import Row
from gateway_project.lib import ids
settings.SPOOL_FOLDER = Path({str(folder)!r})
def row():
    call_id = ids.new_call_id()
    return Row(call_id=call_id, admitted_at=ids.time_of(call_id), organization_id=1, group0_id=1, api_key_id=1,
               protocol="p", status="ok", http_status=200)
async def work():
    own = Spool("apart")
    await {step}
    print("ready", flush=True)
    time.sleep(60)
asyncio.run(work())
"""

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "ready\n"
        return process

    return start


def test_an_empty_file_of_the_dead_is_no_backlog_and_is_cleared_away(folder: Path) -> None:
    folder.mkdir()
    (folder / "w1.spool").touch()
    assert not spool.pending_of_the_dead()
    for one in spool.leftovers():
        one.remove()
    assert list(folder.iterdir()) == []


def test_without_a_folder_nothing_is_pending() -> None:
    assert not spool.pending_of_the_dead()
    assert spool.backlog() == spool.Backlog(0, 0, None)


def test_the_backlog_of_the_host_is_everybodys(folder: Path) -> None:
    left_behind("w1")
    left_behind("w2", count=3)
    (folder / "refused.lines").write_text("not one of them\n")
    assert spool.backlog() == spool.Backlog(5, 2, ids.time_of(entry().row.call_id))
    with (folder / "w1.spool").open("ab") as file:
        file.write(spool.encode(entry(9)))
    assert spool.backlog().rows == 6
    os.truncate(folder / "w1.spool", 0)
    assert spool.backlog().rows == 3


def renamed_behind_who_looks(monkeypatch: pytest.MonkeyPatch, *names: Path) -> None:
    """As by somebody who takes a file over: it gets the next name once the folder has been read, and the file has not."""
    look, left = spool._files, iter(names)

    def read_too_early() -> list[Path]:
        files = look()
        if name := next(left, None):
            files[0].rename(name)
        return files

    monkeypatch.setattr(spool, "_files", read_too_early)


@pytest.mark.parametrize("suffixes", [[".left"], [".left", ".written"]])
def test_rows_of_a_file_that_is_being_taken_over_are_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, suffixes: list[str]
) -> None:
    left_behind("w1")
    renamed_behind_who_looks(monkeypatch, *(folder / f"w1{suffix}" for suffix in suffixes))
    assert spool.backlog().rows == 2


def test_a_file_that_is_being_taken_over_is_still_pending(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else counters would come into force without its rows."""
    left_behind("w1")
    renamed_behind_who_looks(monkeypatch, folder / "w1.left")
    assert spool.pending_of_the_dead()


def test_rows_that_the_ledger_refuses_are_kept_for_a_person(folder: Path) -> None:
    folder.mkdir()
    spool.keep_refused([])
    assert list(folder.iterdir()) == []
    spool.keep_refused(entries(2))
    lines = (folder / "refused.lines").read_bytes().splitlines(keepends=True)
    assert [spool.decode(line) for line in lines] == entries(2)


# --- what cannot be read -----------------------------------------------------------------------
@pytest.fixture
def others(settings: Settings) -> Iterator[Path]:
    """A spool folder that everybody may use, and the process no longer the superuser, who may read everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        settings.SPOOL_FOLDER = folder
        yield folder


@contextmanager
def as_nobody() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_of_another_user_is_told_of_and_skipped(others: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_behind("w1").chmod(0)
    with as_nobody():
        left_behind("w2")
        left_behind("w3").chmod(0)
        assert [one.path.name for one in spool.leftovers()] == ["w2.left"]
        assert spool.pending_of_the_dead(), "the one that can be read still is"
        for one in spool.leftovers():
            one.remove()
        assert not spool.pending_of_the_dead()
        assert spool.backlog().rows == 0
    assert sorted(path.name for path in others.iterdir()) == ["w1.spool", "w3.spool"], "nothing is lost"
    assert caplog.text.count("spool.unreadable") == 2, "told once a minute each"
    assert "PermissionError" in caplog.text


def test_a_file_that_can_be_read_again_is_pending_again(others: Path) -> None:
    path = left_behind("w1")
    path.chmod(0)
    with as_nobody():
        assert not spool.pending_of_the_dead()
    path.chmod(0o600)
    assert spool.pending_of_the_dead()
    (found,) = [asyncio.run(read(one)) for one in spool.leftovers()]
    assert found == entries(2)


@pytest.mark.parametrize("suffix", [".spool", ".left", ".written"])
@pytest.mark.parametrize("kind", ["folder", "loop", "pipe"])
def test_what_is_no_file_is_in_nobodys_way(folder: Path, kind: str, suffix: str) -> None:
    folder.mkdir()
    path = folder / f"w1{suffix}"
    match kind:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case _:
            os.mkfifo(path)
    assert not spool.pending_of_the_dead()
    left_behind("w2")
    assert [one.path.name for one in spool.leftovers()] == ["w2.left"]
    assert spool.backlog().rows == 2
    assert spool.pending_of_the_dead()


def test_a_folder_that_is_none_has_no_files(settings: Settings, tmp_path: Path) -> None:
    settings.SPOOL_FOLDER = tmp_path / "file"
    settings.SPOOL_FOLDER.touch()
    assert list(spool.leftovers()) == []
    assert not spool.pending_of_the_dead()
