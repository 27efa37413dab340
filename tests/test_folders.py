"""Where a run of the tests keeps its files."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import folders

PLENTY = SimpleNamespace(f_bavail=8 << 20, f_frsize=1024, f_flag=0)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for a file system in memory that has room."""
    monkeypatch.setattr(os, "statvfs", lambda _: PLENTY)
    return tmp_path


def test_a_run_keeps_its_files_in_memory_where_there_is_room(memory: Path) -> None:
    folder, lock = folders.make(memory)
    lock.close()

    assert folder.parent == memory
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "changed", [{"f_bavail": 1 << 20}, {"f_flag": os.ST_NOEXEC}], ids=["little room", "no program may run there"]
)
def test_and_where_others_do_otherwise(memory: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, int]) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**vars(PLENTY), **changed}))
    monkeypatch.setattr("tempfile.tempdir", str(memory))
    elsewhere = memory / "memory"
    elsewhere.mkdir()

    folder, lock = folders.make(elsewhere)
    lock.close()

    assert folder.parent == memory


def test_and_where_there_is_no_such_file_system(tmp_path: Path) -> None:
    assert not folders.has_room(tmp_path / "absent")


def test_what_a_killed_run_has_left_goes_and_what_runs_keeps_its_files(memory: Path) -> None:
    abandoned = memory / f"{folders.NAME}abandoned"
    (abandoned / "servers").mkdir(parents=True)
    (memory / "of somebody else").mkdir()
    running, lock = folders.make(memory)
    (running / "file").touch()

    another, its_lock = folders.make(memory)

    assert {path.name for path in memory.iterdir()} == {"of somebody else", running.name, another.name}
    assert (running / "file").exists()
    lock.close()
    its_lock.close()


def test_a_process_that_was_forked_keeps_them_too(memory: Path) -> None:
    """The one that a run was started with may be killed before those that it has forked have ended."""
    folder, lock = folders.make(memory)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]) as other:
        lock.close()
        folders.remove_abandoned(memory)
        assert folder.exists()
        other.communicate(b"\n")

    folders.remove_abandoned(memory)
    assert not folder.exists()
