import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway_project.embedded import tree as tree_module
from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.terminal import Terminal
from gateway_project.embedded.tree import Stopped, Tree

SLEEP = "import time; time.sleep(60)"
WAITS = "import time; print('on'); time.sleep(60)"
SAYS_WHEN_STOPPED = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('stopped'))); print('on'); time.sleep(60)"
)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def tree(out: io.StringIO) -> Iterator[Tree]:
    before = {number: signal.getsignal(number) for number in tree_module.STOP_SIGNALS}
    tree = Tree(Terminal(out), changed=lambda children: None)
    yield tree
    tree.stop()
    for number, action in before.items():
        signal.signal(number, action)


def child(name: str, code: str = SLEEP, *, once: bool = False, stop_seconds: float = 10) -> Child:
    return Child(
        name,
        argv=[sys.executable, "-u", "-c", code],
        ready=lambda pid: True,
        folder=Path("/"),
        variables=dict(os.environ),
        once=once,
        stop_seconds=stop_seconds,
    )


def after(seconds: float, signal_number: signal.Signals = signal.SIGTERM) -> None:
    """We get the signal while the tree is watching."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal_number)).start()


@pytest.mark.parametrize("number", tree_module.STOP_SIGNALS)
def test_a_signal_ends_the_watch_and_stop_leaves_nothing(tree: Tree, number: signal.Signals) -> None:
    tree.listen_for_signals()
    tree.start(child("web"), child("postgres"))
    pids = [one.pid for one in tree.children]
    after(0.3, number)
    with pytest.raises(Stopped):
        tree.watch()
    tree.stop()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_those_who_take_calls_stop_first_and_those_who_keep_data_last(tree: Tree, out: io.StringIO) -> None:
    for name in ("valkey", "postgres", "celery", "web-1", "web-2", "history"):
        tree.start(child(name, SAYS_WHEN_STOPPED))
    wait_for(lambda: out.getvalue().count("| on") == 6)
    tree.stop()
    stopped = [line.split()[0].partition("-")[0] for line in out.getvalue().splitlines() if line.endswith("stopped")]
    assert stopped == ["history", "web", "web", "celery", "postgres", "valkey"]


def test_those_of_one_kind_stop_together(tree: Tree, out: io.StringIO) -> None:
    """The first ends only when the second has been asked as well."""
    reading, writing = os.pipe()
    first = child("web-1", f"import signal, os; signal.signal(15, lambda *_: os.read({reading}, 1) and os._exit(0)); {WAITS}")
    second = child(
        "web-2", f"import signal, os; signal.signal(15, lambda *_: os.write({writing}, b'x') and os._exit(0)); {WAITS}"
    )
    first.descriptors, second.descriptors = [reading], [writing]
    first.stop_seconds = 60
    tree.start(first, second)
    os.close(writing)
    wait_for(lambda: out.getvalue().count("| on") == 2)
    assert first.process is not None
    process = first.process
    tree.stop()
    assert process.returncode == 0
    os.close(reading)


def test_a_child_that_ends_right_after_its_start_ends_everything(tree: Tree) -> None:
    tree.start(child("postgres"), child("celery", "import sys; sys.exit('no module named tasks')"))
    with pytest.raises(
        StartError, match=r"celery ended right after its start \(exit code 1\)\.\n  celery \| no module named tasks"
    ):
        tree.watch()


def test_a_child_that_dies_later_is_started_again(tree: Tree, out: io.StringIO) -> None:
    tree.listen_for_signals()
    web = child("web")
    tree.start(web)
    web.wait_until_ready(seconds=10)
    first = web.pid
    os.kill(first, signal.SIGKILL)
    after(1.5)
    with pytest.raises(Stopped):
        tree.watch()
    assert web.pid not in (0, first)
    assert web.exit_code is None
    assert "web ended unexpectedly (exit code -9): starting it again" in out.getvalue()


def test_a_child_that_keeps_dying_ends_everything(tree: Tree) -> None:
    web = child("web", "import sys; sys.exit('no memory')")
    tree.start(web)
    web.was_ready = True  # it has served once
    with pytest.raises(StartError, match="web ended right after its start"):
        tree.watch()


def test_a_task_may_end_without_anything_happening(tree: Tree, out: io.StringIO) -> None:
    tree.listen_for_signals()
    tree.start(child("history", "print('written')", once=True))
    after(1.0)
    with pytest.raises(Stopped):
        tree.watch()
    assert tree.children == []
    assert out.getvalue() == "history  | written\n"


def test_a_task_that_fails_is_told_and_nothing_stops(tree: Tree, out: io.StringIO) -> None:
    tree.listen_for_signals()
    tree.start(child("web"), child("history", "import sys; sys.exit(7)", once=True))
    after(1.0)
    with pytest.raises(Stopped):
        tree.watch()
    assert [one.name for one in tree.children] == ["web"]
    assert "history failed (exit code 7)" in out.getvalue()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_stop_once_more_still_waits(tree: Tree, out: io.StringIO, number: signal.Signals) -> None:
    """As a service manager does that tells every process, and then the one above passes it on."""
    tree.listen_for_signals()
    ends = "import os, signal, time; signal.signal(15, lambda *_: os._exit(time.sleep(1) or print('ended') or 0))"
    tree.start(child("web", f"{ends}; {WAITS}"))
    wait_for(lambda: "| on" in out.getvalue())
    after(0.3, number)
    tree.stop()
    assert "| ended" in out.getvalue()


def test_ctrl_c_while_stopping_does_not_wait_any_longer(tree: Tree, out: io.StringIO) -> None:
    tree.listen_for_signals()
    tree.start(
        child("web", "import signal, time; signal.signal(15, signal.SIG_IGN); print('on'); time.sleep(60)", stop_seconds=30)
    )
    wait_for(lambda: "| on" in out.getvalue())
    after(0.3, signal.SIGINT)
    began = time.monotonic()
    tree.stop()
    assert time.monotonic() - began < 5


def test_whoever_records_the_processes_hears_of_each_change(out: io.StringIO) -> None:
    heard: list[list[str]] = []
    tree = Tree(Terminal(out), changed=lambda children: heard.append([one.name for one in children]))
    tree.start(child("web"))
    tree.start(child("celery"))
    tree.stop()
    assert heard == [["web"], ["web", "celery"], []]


def wait_for(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
