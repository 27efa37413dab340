"""The measurements. Each is made several times; the median counts, and all values are shown."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop

from gateway_project.bench import load
from gateway_project.bench.load import Load
from gateway_project.bench.processes import cpu_seconds, memory_mb
from gateway_project.bench.stage import ROOT, Stage

CONNECTIONS = 16
WARM_UP_SECONDS = 2.0
SYNCS = 100


@dataclass
class Figure:
    """One row of the table. `goal` and `milestone` are texts of the same unit."""

    name: str
    unit: str
    goal: str
    milestone: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class BenchFailed(Exception):
    """A call of the benchmark failed: its figures would mean nothing."""


def measure(stage: Stage, *, runs: int, seconds: float) -> list[Figure]:
    """Everything that needs the stage. Raises BenchFailed."""
    whole = Figure("governed calls per core", "calls/CPU-s", "≥ 3,000", "≥ 1,500")
    streams = Figure("streams of 24 frames per core", "streams/CPU-s", "≥ 1,500", "≥ 800")
    p50 = Figure("added latency, 1 connection, p50", "ms", "≤ 1.0", "≤ 1.5")
    p99 = Figure("added latency, 1 connection, p99", "ms", "≤ 3", "≤ 5")
    memory = Figure("memory of the web process", "MB", "≤ 120", "≤ 150")
    _load(stage, stage.url, stream=False, connections=CONNECTIONS, seconds=WARM_UP_SECONDS)
    _load(stage, stage.url, stream=True, connections=CONNECTIONS, seconds=WARM_UP_SECONDS)
    for _ in range(runs):
        whole.values.append(_per_core(stage, stream=False, seconds=seconds))
        streams.values.append(_per_core(stage, stream=True, seconds=seconds))
        direct = _load(stage, stage.upstream_url, stream=False, connections=1, seconds=seconds)
        governed = _load(stage, stage.url, stream=False, connections=1, seconds=seconds)
        p50.values.append(governed.percentile_ms(0.5) - direct.percentile_ms(0.5))
        p99.values.append(governed.percentile_ms(0.99) - direct.percentile_ms(0.99))
        memory.values.append(memory_mb(stage.web.pid))
    sync = Figure("of that, this disk's own time to make a commit durable, p50", "ms", "", "", disk_sync_ms(runs=runs))
    return [whole, streams, p50, p99, sync, memory]


def admission_cost(stage: Stage, *, runs: int) -> list[Figure]:
    """One admission and its settlement under nine limits, 32 at once (gateway_project/bench/admission.py)."""
    worker = Figure("admit + settle, nine limits: worker", "µs", "≤ 120", "≤ 120")
    admit = Figure("admit: time in Valkey", "µs", "≤ 100", "≤ 100")
    settle = Figure("settle: time in Valkey", "µs", "≤ 100", "≤ 100")
    for _ in range(runs):
        words = [sys.executable, "-m", "gateway_project.bench.admission"]
        done = subprocess.run(words, cwd=ROOT, env=stage.variables, check=True, capture_output=True, text=True)  # noqa: S603
        measured = json.loads(done.stdout.splitlines()[-1])
        worker.values.append(measured["worker_us"])
        admit.values.append(measured["admit_us"])
        settle.values.append(measured["settle_us"])
    return [worker, admit, settle]


def disk_sync_ms(*, runs: int) -> list[float]:
    """What one fdatasync of 8 kB costs here: every answer waits for one, and no gateway can be faster than its disk."""
    medians = []
    with tempfile.TemporaryFile() as file:
        for _ in range(runs):
            taken = []
            for _ in range(SYNCS):
                file.write(b"x" * 8192)
                file.flush()
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                taken.append((time.perf_counter() - began) * 1000)
            medians.append(statistics.median(taken))
    return medians


def _per_core(stage: Stage, *, stream: bool, seconds: float) -> float:
    before = cpu_seconds(stage.web.pid)
    done = _load(stage, stage.url, stream=stream, connections=CONNECTIONS, seconds=seconds)
    return done.calls / (cpu_seconds(stage.web.pid) - before)


def _load(stage: Stage, url: str, *, stream: bool, connections: int, seconds: float) -> Load:
    request = load.request_bytes(url, key=stage.key, model=stage.model, stream=stream)
    return answered(url, request, connections=connections, seconds=seconds)


def answered(url: str, request: bytes, *, connections: int, seconds: float) -> Load:
    """Raises BenchFailed unless every call was answered with a 200."""
    done = uvloop.run(load.run(url, request, connections=connections, seconds=seconds))
    if done.failures or not done.calls:
        raise BenchFailed(f"calls to {url} failed: {done.failures or 'none was answered'}")
    return done


def start_times(*, runs: int) -> list[Figure]:
    """`manage.py up` to the first answered call: on an empty folder, and again on the same one."""
    first = Figure("start to first answered call, first time", "s", "≤ 10", "≤ 15")
    later = Figure("start to first answered call, later", "s", "≤ 4", "≤ 6")
    for _ in range(runs):
        folder = Path(tempfile.mkdtemp(prefix="gatehouse-bench-up-"))
        folder.chmod(0o711)
        try:
            first.values.append(_up_until_answered(folder))
            later.values.append(_up_until_answered(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return [first, later]


def _up_until_answered(folder: Path) -> float:
    """Runs `up` until the curl line it prints is there and the call in it is answered."""
    variables = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")}
    variables |= {"GATEHOUSE_HOME": str(folder), "PORT": "8931"}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "manage.py", "up"], cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as up:
        try:
            key = _printed_key(up)
            _call(key)
            return time.monotonic() - began
        finally:
            up.terminate()
            up.communicate(timeout=60)


def _printed_key(up: subprocess.Popen[str]) -> str:
    for line in up.stdout or ():
        if "API key" in line and "gh_sk_" in line:
            return "gh_sk_" + line.partition("gh_sk_")[2].strip()
    raise BenchFailed("`manage.py up` ended before it printed an API key")


def _call(key: str) -> None:
    body = {"model": "sandbox-instant", "messages": [{"role": "user", "content": "Hello!"}]}
    answered = httpx.post(
        "http://127.0.0.1:8931/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
        trust_env=False,
    )
    if answered.status_code != 200:
        raise BenchFailed(f"the first call was answered {answered.status_code}")
