"""Figures of the benchmark: what they are made of, how they are shown, and that a failing call voids them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.bench import figures, processes, table
from gateway_project.bench.figures import BenchFailed, Figure
from gateway_project.bench.stage import Stage, _free_port, _listens


def test_every_figure_has_one_value_for_each_run(bench_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "WARM_UP_SECONDS", 0.05)
    rows = figures.measure(bench_stage, runs=2, seconds=0.2)
    assert [len(row.values) for row in rows] == [2] * 6
    whole, streams, p50, p99, sync, memory = rows
    assert whole.median > streams.median > 10
    assert abs(p50.median) < 50
    assert abs(p99.median) < 500
    assert 0 < sync.median < 1000
    assert 5 < memory.median < 500


def test_a_call_that_fails_voids_the_figures(bench_stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
        script = (
            "import socket,sys\n"
            "server = socket.socket(fileno=int(sys.argv[1]))\n"
            "while True:\n"
            "    taken, _ = server.accept()\n"
            "    taken.recv(65536)\n"
            "    taken.sendall(b'HTTP/1.1 503 Away\\r\\ncontent-length: 0\\r\\nconnection: close\\r\\n\\r\\n')\n"
            "    taken.close()\n"
        )
        words = [sys.executable, "-c", script, str(closing.fileno())]
        with subprocess.Popen(words, pass_fds=[closing.fileno()]) as server:
            try:
                with pytest.raises(BenchFailed, match="503"):
                    figures._load(bench_stage, f"http://127.0.0.1:{port}/v1", stream=False, connections=1, seconds=0.1)
            finally:
                server.terminate()


def test_a_gateway_that_prints_no_key_is_a_failure() -> None:
    words = [sys.executable, "-c", "print('Starting'); print('API key   none yet')"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as up, pytest.raises(BenchFailed, match="before it printed"):
        figures._printed_key(up)


def test_the_printed_key_is_found_whatever_stands_before_it() -> None:
    words = [sys.executable, "-c", r"print('\x1b[1mAPI key\x1b[0m   gh_sk_abc_SECRET'); print('later')"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as up:
        assert figures._printed_key(up) == "gh_sk_abc_SECRET"


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_the_median_is_what_is_shown_and_all_values_beside_it(values: list[float]) -> None:
    row = Figure("f", "ms", "≤ 1", "≤ 2", values)
    cells = table.render([row], machine="m").splitlines()[-1].split(" | ")
    assert cells[0] == "| f"
    assert cells[1] == f"{table.shown(sorted(values)[len(values) // 2])} ms" or len(values) % 2 == 0
    assert cells[2].count(", ") == len(values) - 1
    assert cells[3:] == ["≤ 2", "≤ 1 |"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.126, "0.13"), (-1.5, "-1.50"), (9.99, "9.99"), (10.04, "10.0"), (-12.34, "-12.3"), (3120.4, "3,120")],
)
def test_three_digits_are_enough(value: float, text: str) -> None:
    assert table.shown(value) == text


def test_the_table_names_machine_and_versions_and_has_a_row_for_each_figure() -> None:
    rows = [Figure(f"figure {number}", "MB", "", "", [float(number)]) for number in range(4)]
    lines = table.render(rows, machine="Linux 6, 2 × Chip, Python 3.11").splitlines()
    assert lines[0] == "Linux 6, 2 × Chip, Python 3.11"
    assert all(name in lines[1] for name in table.VERSIONS)
    assert [line for line in lines if line.startswith("| figure ")][1:] == lines[5:]
    assert len(lines) == 5 + 4
    assert len({line.count("|") for line in lines[3:]}) == 1


def test_processor_time_is_what_the_process_used() -> None:
    before, clock = processes.cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() < clock + 0.1:
        sum(range(1000))
    assert processes.cpu_seconds(os.getpid()) - before == pytest.approx(0.1, abs=0.05)


def test_a_process_with_brackets_in_its_name_is_read_all_the_same(tmp_path: Path) -> None:
    program = tmp_path / "a) S (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "5"]) as sleeping:
        try:
            assert processes.cpu_seconds(sleeping.pid) < 1
        finally:
            sleeping.kill()


def test_memory_grows_with_what_a_process_keeps() -> None:
    script = "import sys; kept = bytearray(int(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"

    def of(size: int) -> float:
        words = [sys.executable, "-c", script, str(size)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            found = processes.memory_mb(process.pid)
            process.communicate("")
            return found

    assert of(64 << 20) - of(0) == pytest.approx(64, abs=8)


def test_the_measured_process_shares_no_processor_with_the_others() -> None:
    others, own = processes.pinned()
    everything = {str(number) for number in os.sched_getaffinity(0)}
    if len(everything) == 1:
        assert (others, own) == ("", "")
    else:
        assert own not in others.split(",")
        assert {own, *others.split(",")} == everything


def test_the_machine_is_told_in_one_line() -> None:
    line = processes.machine()
    assert "\n" not in line
    assert " × " in line
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in line


def test_a_free_port_is_free() -> None:
    port = _free_port()
    assert not _listens(port)
    with socket.create_server(("127.0.0.1", port)):
        assert _listens(port)


def test_the_disks_own_time_is_measured_once_a_run() -> None:
    taken = figures.disk_sync_ms(runs=2)
    assert len(taken) == 2
    assert all(milliseconds > 0 for milliseconds in taken)
