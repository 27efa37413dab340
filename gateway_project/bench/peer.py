"""Another gateway on this machine, under the same load as ours, in turn: what the machine does to one it does to the other."""

from __future__ import annotations

from dataclasses import dataclass

from gateway_project.bench import load
from gateway_project.bench.figures import CONNECTIONS, WARM_UP_SECONDS, Figure, answered
from gateway_project.bench.processes import cpu_seconds
from gateway_project.bench.stage import Stage


@dataclass(frozen=True)
class Peer:
    """`url` ends in /v1. `headers`: `name: value`, in which {upstream} stands for the benchmark's provider.

    `pid`: of the one process that answers, whose CPU time is compared too; None where it cannot be read.
    """

    url: str
    key: str
    model: str
    headers: tuple[str, ...] = ()
    pid: int | None = None


@dataclass(frozen=True)
class _Side:
    name: str
    url: str
    request: bytes
    pid: int | None


@dataclass(frozen=True)
class _Measured:
    """`per_cpu_second` is not a number where the process is unknown, or has not used one tick of the system's clock."""

    per_second: float
    per_cpu_second: float


def compare(stage: Stage, peer: Peer, *, runs: int, seconds: float) -> list[Figure]:
    """Calls per second of both, per second of CPU where that can be read, and then ours by theirs, pair by pair.

    Raises BenchFailed where a call of either fails.
    """
    sides = _sides(stage, peer)
    for side in sides:
        answered(side.url, side.request, connections=CONNECTIONS, seconds=min(seconds, WARM_UP_SECONDS))
    rows = []
    for connections in (1, CONNECTIONS):
        pairs = [[_measured(side, connections=connections, seconds=seconds) for side in sides] for _ in range(runs)]
        told = "1 connection" if connections == 1 else f"{connections} connections"
        rows += _compared(told, "calls/s", [(ours.per_second, theirs.per_second) for ours, theirs in pairs])
        if peer.pid is not None:
            rows += _compared(told, "calls/CPU-s", [(ours.per_cpu_second, theirs.per_cpu_second) for ours, theirs in pairs])
    return rows


def _sides(stage: Stage, peer: Peer) -> tuple[_Side, _Side]:
    headers = [line.replace("{upstream}", stage.upstream_url) for line in peer.headers]
    ours = load.request_bytes(stage.url, key=stage.key, model=stage.model, stream=False)
    theirs = load.request_bytes(peer.url, key=peer.key, model=peer.model, stream=False, headers=headers)
    return _Side("Gatehouse", stage.url, ours, stage.web.pid), _Side("peer", peer.url, theirs, peer.pid)


def _measured(side: _Side, *, connections: int, seconds: float) -> _Measured:
    before = cpu_seconds(side.pid) if side.pid else 0.0
    done = answered(side.url, side.request, connections=connections, seconds=seconds)
    spent = cpu_seconds(side.pid) - before if side.pid else 0.0
    return _Measured(done.calls / seconds, done.calls / spent if spent else float("nan"))


def _compared(told: str, unit: str, pairs: list[tuple[float, float]]) -> list[Figure]:
    return [
        Figure(f"Gatehouse, {told}", unit, "", "", [ours for ours, _ in pairs]),
        Figure(f"peer, {told}", unit, "", "", [theirs for _, theirs in pairs]),
        Figure(f"Gatehouse by peer, {told}", f"× {unit}", "", "", [ours / theirs for ours, theirs in pairs]),
    ]
