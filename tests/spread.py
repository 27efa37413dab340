"""Spreads a run over processes that are forked when all tests have been found: `--spread N`.

Finding ten thousand tests takes ten seconds of CPU, and the code they stand for is loaded with them: it is done once. Each
process has servers of its own (tests/servers.py), takes one file after another, those that take longest first, and tells how
its tests ended; the process it was forked from reports that as if it had run them itself.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from gateway_project.embedded.child import end_with_parent
from gateway_project.lib import large_pages
from tests.room import with_room

# Files that take long, most of it waiting for processes and browsers: whoever begins them last makes all others wait.
LONG = (
    "proxy/test_journey.py", "torture/test_short.py", "proxy/test_proving.py", "proxy/test_draining.py",
    "gateway_project/test_up.py", "proxy/test_every_page.py", "torture/test_two_hundred.py", "guardrails/test_generations.py",
    "proxy/test_company_life.py", "orgs/test_routes.py", "orgs/test_api_schema.py", "proxy/test_spooling.py",
    "orgs/scim/test_conformance.py", "proxy/test_unguarded.py", "proxy/test_failover.py", "proxy/test_simulating_ledger.py",
    "proxy/test_simulation_pages.py", "orgs/test_objects.py", "orgs/test_verification.py", "proxy/test_every_level.py",
    "proxy/test_stopping.py", "proxy/test_sandbox.py", "proxy/test_provider_faults.py", "proxy/test_videos.py",
    "proxy/test_standins.py", "torture/test_hang_ups.py", "test_spread.py",
)  # fmt: skip

# One process runs these one after another, with one browser, whose start takes two seconds of CPU.
TOGETHER = tuple(
    Path(__file__).parent / name
    for name in (
        "proxy/test_journey.py", "proxy/test_shown_once.py", "proxy/test_playground.py", "proxy/test_first_fault.py",
        "proxy/test_call_log_width.py", "proxy/test_live_log.py", "orgs/test_passkeys.py", "gateway_project/test_browsers.py",
    )
)  # fmt: skip


class Hooks:
    """Of a run that is spread."""

    def pytest_forked(self, config: pytest.Config, place: int) -> None:
        """A process begins, the `place`-th: whatever each has of its own is made."""

    def pytest_before_file(self, config: pytest.Config) -> None:
        """A process begins with the next file: what earlier ones have left behind may be swept away."""

    def pytest_forked_ends(self, config: pytest.Config) -> None:
        """It ends, without what a run does at its end."""


INTERRUPTED_SECONDS = 20.0

Location = tuple[str, int | None, str]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--spread",
        type=int,
        default=0,
        metavar="N",
        help="run the tests in N processes, each with its own servers; with -s nothing is shown",
    )


class Elsewhere(pytest.Item):
    """No test, but what comes after a file's last one: it shares nothing with it but the process."""

    def runtest(self) -> NoReturn:
        raise NotImplementedError


class Process(NamedTuple):
    pid: int
    pipe: Connection


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if not session.config.option.spread or session.config.option.collectonly or session.testsfailed:
        return None
    files = longest_first(session.items)
    number = min(session.config.option.spread, len(files))
    vars(session.config)["_tmp_path_factory"].getbasetemp()  # one for all, cleared away as ever
    Spread(session, files).run([fork(session, files, place) for place in range(number)])
    return True


def longest_first(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """By file, in the order given but for those that take long. Files of TOGETHER count as one."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:  # those of one file need not follow one another: pytest brings together what shares a fixture
        files.setdefault(TOGETHER[0] if item.path in TOGETHER else item.path, []).append(item)
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    return [found for _, found in sorted(files.items(), key=lambda one: places.get(one[0], len(places)))]


# --- in the process that was started -------------------------------------------------------------------------------------------
class Spread:
    """Hands out the files, and reports what comes back."""

    def __init__(self, session: pytest.Session, files: list[list[pytest.Item]]) -> None:
        self.session, self.hook = session, session.config.hook
        self.files = iter(range(len(files)))
        self.running: dict[Connection, str] = {}  # the test that each process is at
        self.dismissed: set[Connection] = set()  # those that know that nothing is left for them

    def run(self, processes: list[Process]) -> None:
        left = {process.pipe: process.pid for process in processes}
        try:
            while left:
                for pipe in wait(list(left)):
                    assert isinstance(pipe, Connection)
                    if not self._heard(pipe):
                        self._ended(pipe, os.waitstatus_to_exitcode(os.waitpid(left.pop(pipe), 0)[1]))
        finally:
            interrupt(list(left.values()))
        if self._stops():
            raise self.session.Failed(self._stops())

    def _stops(self) -> bool | str:
        return self.session.shouldfail or self.session.shouldstop

    def _heard(self, pipe: Connection) -> bool:
        """Whether it has more to say."""
        try:
            told = pipe.recv()
            if told is None:
                self._hand_out(pipe)
        except (EOFError, ConnectionError):
            return False
        if told is not None:
            self._report(pipe, *told)
        return True

    def _hand_out(self, pipe: Connection) -> None:
        number = None if self._stops() else next(self.files, None)
        if number is None:
            self.dismissed.add(pipe)
        pipe.send(number)

    def _report(self, pipe: Connection, location: Location, told: pytest.TestReport | dict[str, Any]) -> None:
        report = told
        if isinstance(told, dict):
            report = self.hook.pytest_report_from_serializable(config=self.session.config, data=told)
        assert isinstance(report, pytest.TestReport)
        if report.when == "setup":
            self.running[pipe] = report.nodeid
            self.hook.pytest_runtest_logstart(nodeid=report.nodeid, location=location)
        self.hook.pytest_runtest_logreport(report=report)
        if report.when == "teardown":
            self.hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=location)

    def _ended(self, pipe: Connection, code: int) -> None:
        """However it did: whoever goes before it is dismissed leaves tests behind."""
        if code or pipe not in self.dismissed:
            self.session.shouldfail = f"A process of the tests ended with {code}, in or after {self.running.get(pipe)}"


def interrupt(processes: list[int]) -> None:
    """As the one that was started is. Whoever does not listen is ended."""
    until = time.monotonic() + INTERRUPTED_SECONDS
    for pid in processes:
        os.kill(pid, signal.SIGINT)
    for pid in processes:
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def fork(session: pytest.Session, files: list[list[pytest.Item]], place: int) -> Process:
    ours, theirs = Pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        theirs.close()
        return Process(pid, ours)
    ours.close()
    end_with_parent(signal.SIGTERM)
    work(session, files, place, theirs)


# --- in a process that was forked ----------------------------------------------------------------------------------------------
def work(session: pytest.Session, files: list[list[pytest.Item]], place: int, pipe: Connection) -> NoReturn:
    code = 1
    terminal = os.dup(2)
    try:
        stay_silent(session.config)
        random.seed()
        session.config.hook.pytest_forked(config=session.config, place=place)
        session.config.pluginmanager.register(Telling(session.config, pipe))
        with_room(run, session, taken(files, pipe))
        code = 0
    except BaseException:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # who sits at the terminal interrupts all processes, and so does the first one
        os.write(terminal, traceback.format_exc().encode())
    finally:
        try:
            session.config.hook.pytest_forked_ends(config=session.config)
        finally:
            os._exit(code)


def stay_silent(config: pytest.Config) -> None:
    """What tests write is kept in a file of this process' own; what pytest writes, the other one does."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    capture.stop_global_capturing()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    capture.start_global_capturing()


def taken(files: list[list[pytest.Item]], pipe: Connection) -> Iterator[list[pytest.Item]]:
    while True:
        pipe.send(None)
        if (number := pipe.recv()) is None:
            return
        yield files[number]


def run(session: pytest.Session, taken: Iterator[list[pytest.Item]]) -> None:
    """What a file's tests share goes with its last; what the process' tests share, when no file is left."""
    protocol = session.config.hook.pytest_runtest_protocol
    elsewhere = Elsewhere.from_parent(session, name="elsewhere")
    for items in taken:
        session.config.hook.pytest_before_file(config=session.config)
        large_pages.use()
        for item, following in pairwise([*items, elsewhere]):
            protocol(item=item, nextitem=following)
            if session.shouldfail or session.shouldstop:
                return
    session.config.hook.pytest_sessionfinish(session=session, exitstatus=session.exitstatus)


class Telling:
    """Says how tests ended: without a traceback, as nearly all do, in the report as it is."""

    def __init__(self, config: pytest.Config, pipe: Connection) -> None:
        self.config, self.pipe = config, pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told: object = report
        if report.longrepr is not None:
            told = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.pipe.send((report.location, told))
