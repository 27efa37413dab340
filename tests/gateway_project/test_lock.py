import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_project.embedded import lock as lock_module
from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.lock import StateLock, birth

URL = "http://127.0.0.1:8000"


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[StateLock]:
    lock = StateLock(tmp_path, url=URL)
    yield lock
    lock.release()


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    child = Child("sleeper", argv=["/bin/sleep", "60"], ready=lambda pid: True, folder=tmp_path, variables={})
    child.start(lambda name, line: None)
    yield child
    child.stop(at_once=True)


def test_a_second_start_on_the_same_folder_is_told_who_runs_there(lock: StateLock, tmp_path: Path) -> None:
    lock.acquire()
    with pytest.raises(StartError) as refused:
        StateLock(tmp_path, url="http://127.0.0.1:9000").acquire()
    assert str(refused.value).startswith(f"Gatehouse already runs on {tmp_path} (process {os.getpid()}, {URL})")
    assert "\n" not in str(refused.value)


def test_two_folders_do_not_meet(lock: StateLock, tmp_path_factory: pytest.TempPathFactory) -> None:
    lock.acquire()
    other = StateLock(tmp_path_factory.mktemp("other"), url=URL)
    other.acquire()
    other.release()


def test_the_folder_is_free_again_after_release(lock: StateLock, tmp_path: Path) -> None:
    lock.acquire()
    lock.release()
    again = StateLock(tmp_path, url=URL)
    again.acquire()
    again.release()


def test_what_a_killed_start_left_running_is_ended(lock: StateLock, tmp_path: Path, sleeper: Child) -> None:
    lock.acquire()
    lock.record([sleeper])
    lock.release()  # as the kernel does for a killed process
    pid = sleeper.pid
    again = StateLock(tmp_path, url=URL)
    again.acquire()
    again.release()
    assert birth(pid) == ""
    assert sleeper.exit_code == -signal.SIGTERM


def test_a_number_that_belongs_to_somebody_else_by_now_is_left_alone(lock: StateLock, tmp_path: Path, sleeper: Child) -> None:
    (tmp_path / lock_module.FILE_NAME).write_text(json.dumps({"pid": 1, "children": [["web", sleeper.pid, "another time"]]}))
    lock.acquire()
    assert sleeper.exit_code is None


@pytest.mark.parametrize(
    "content", ["", "not json", "[]", '{"pid": 3}', '{"children": [["web", 99999999, "1"]]}', '{"children": [[1, 2]]}']
)
def test_a_damaged_or_outdated_file_is_no_obstacle(lock: StateLock, tmp_path: Path, content: str) -> None:
    (tmp_path / lock_module.FILE_NAME).write_text(content)
    lock.acquire()
    assert json.loads((tmp_path / lock_module.FILE_NAME).read_text())["pid"] == os.getpid()


def test_the_record_names_running_processes_only(lock: StateLock, tmp_path: Path, sleeper: Child) -> None:
    never = Child("never", argv=["/bin/true"], ready=lambda pid: True, folder=tmp_path, variables={})
    lock.acquire()
    lock.record([sleeper, never])
    assert json.loads((tmp_path / lock_module.FILE_NAME).read_text())["children"] == [
        ["sleeper", sleeper.pid, birth(sleeper.pid)]
    ]


def test_a_process_is_known_by_the_time_of_its_birth(sleeper: Child) -> None:
    assert birth(sleeper.pid)
    assert birth(sleeper.pid) == birth(sleeper.pid)
    assert birth(os.getpid()) != ""
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    assert birth(ended.pid) == ""


def test_a_refused_start_leaves_the_record_of_the_running_one(lock: StateLock, tmp_path: Path, sleeper: Child) -> None:
    lock.acquire()
    lock.record([sleeper])
    before = (tmp_path / lock_module.FILE_NAME).read_text()

    late = StateLock(tmp_path, url="http://127.0.0.1:9")
    with pytest.raises(StartError):
        late.acquire()
    late.record([])
    late.release()

    assert (tmp_path / lock_module.FILE_NAME).read_text() == before
