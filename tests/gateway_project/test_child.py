import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError

Make = Callable[..., Child]


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """`make("python code")`: a child that runs it; ended after the test."""
    children: list[Child] = []

    def make(code: str, **options: object) -> Child:
        defaults: dict[str, object] = {"ready": lambda pid: True, "folder": tmp_path, "variables": dict(os.environ)}
        children.append(Child("probe", argv=[sys.executable, "-u", "-c", code], **{**defaults, **options}))  # type: ignore[arg-type]
        return children[-1]

    yield make
    for child in children:
        child.stop(at_once=True)


def start(child: Child, written: list[str]) -> Child:
    child.start(lambda name, line: written.append(f"{name}|{line}"))
    return child


def test_every_line_is_written_under_the_childs_name(make: Make, written: list[str]) -> None:
    child = start(make("import sys; print('out'); print('err', file=sys.stderr)"), written)
    child.wait_until_done(seconds=10)
    child.stop()
    assert sorted(written) == ["probe|err", "probe|out"]


def test_bytes_that_are_no_text_do_not_end_the_log(make: Make, written: list[str]) -> None:
    child = start(make(r"import sys; sys.stdout.buffer.write(b'\xff\xfe\nnext\n')"), written)
    child.wait_until_done(seconds=10)
    child.stop()
    assert written[-1] == "probe|next"


def test_a_child_that_ends_while_starting_is_told_with_its_last_lines(make: Make, written: list[str]) -> None:
    child = start(make("import sys; print('the disk is full'); sys.exit(3)", ready=lambda pid: False), written)
    with pytest.raises(StartError, match=r"probe ended while starting \(exit code 3\)\.\n  probe \| the disk is full"):
        child.wait_until_ready(seconds=10)


def test_a_silent_child_is_not_waited_for_longer_than_allowed(make: Make, written: list[str]) -> None:
    child = start(make("import time; time.sleep(60)", ready=lambda pid: False), written)
    began = time.monotonic()
    with pytest.raises(StartError, match="probe did not answer within 0 s"):
        child.wait_until_ready(seconds=0.2)
    assert time.monotonic() - began < 5


def test_a_task_that_fails_is_told_with_its_last_lines(make: Make, written: list[str]) -> None:
    child = start(make("import sys; sys.exit('no such table')"), written)
    with pytest.raises(StartError, match=r"probe failed \(exit code 1\)\.\n  probe \| no such table"):
        child.wait_until_done(seconds=10)


def test_a_task_that_never_ends_is_an_error(make: Make, written: list[str]) -> None:
    child = start(make("import time; time.sleep(60)"), written)
    with pytest.raises(StartError, match="is not done"):
        child.wait_until_done(seconds=0.1)


def test_noise_is_not_shown_but_explains_a_failure(make: Make, written: list[str]) -> None:
    import re

    child = start(make("import sys; print('LOG: bad setting'); sys.exit(1)", noise=re.compile("^LOG")), written)
    with pytest.raises(StartError, match="bad setting"):
        child.wait_until_done(seconds=10)
    assert written == []


def test_a_gated_child_goes_on_when_its_gate_opens(make: Make, written: list[str]) -> None:
    child = start(make("import sys; print('loaded'); sys.stdin.readline() and print('serving')", gated=True), written)
    wait_for(lambda: "probe|loaded" in written)
    assert "probe|serving" not in written
    child.open_gate()
    child.wait_until_done(seconds=10)
    child.stop()
    assert written[-1] == "probe|serving"


def test_opening_the_gate_of_a_dead_child_is_no_error(make: Make, written: list[str]) -> None:
    child = start(make("pass", gated=True), written)
    child.wait_until_done(seconds=10)
    child.open_gate()
    child.stop()


def test_stopping_asks_first(make: Make, written: list[str]) -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('tidied up'))); print('on'); time.sleep(60)"
    child = start(make(code), written)
    wait_for(lambda: "probe|on" in written)
    child.stop()
    assert written[-1] == "probe|tidied up"


def test_it_is_asked_once_however_often_that_is_wanted(make: Make, written: list[str]) -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: print('asked')); print('on'); time.sleep(1); time.sleep(60)"
    child = start(make(code, stop_seconds=0.5), written)
    child.ask()  # before it listens: that is no asking of its next life
    child.stop()
    written.clear()
    start(child, written)
    wait_for(lambda: "probe|on" in written)
    child.ask()
    wait_for(lambda: "probe|asked" in written)
    child.ask()
    child.stop()
    assert written == ["probe|on", "probe|asked"]


def test_a_child_that_does_not_listen_is_ended_for_certain(make: Make, written: list[str]) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on'); time.sleep(60)"
    child = start(make(code, stop_seconds=0.2), written)
    wait_for(lambda: "probe|on" in written)
    pid = child.pid
    child.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_grandchildren_end_with_the_child(make: Make, written: list[str]) -> None:
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid); time.sleep(60)"
    child = start(make(code), written)
    wait_for(lambda: bool(written))
    grandchild = int(written[0].partition("|")[2])
    child.stop()
    wait_for(lambda: not running(grandchild))


def test_a_descriptor_is_handed_over(make: Make, written: list[str]) -> None:
    reader, writer = os.pipe()
    child = start(make(f"import os; os.write({writer}, b'result')", descriptors=[writer]), written)
    os.close(writer)
    child.wait_until_done(seconds=10)
    with os.fdopen(reader) as file:
        assert file.read() == "result"


def test_stopping_twice_or_without_a_start_is_harmless(make: Make) -> None:
    child = make("pass")
    child.stop()
    child.start(lambda name, line: None)
    child.stop()
    child.stop()
    assert child.pid == 0


def test_a_stopped_child_can_start_again(make: Make, written: list[str]) -> None:
    child = make("print('here')")
    for _ in range(2):
        start(child, written).wait_until_done(seconds=10)
        child.stop()
    assert written == ["probe|here", "probe|here"]


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
