"""Another gateway beside ours: the same load in turn, its own headers, its CPU where it may be read, and ratios pair by pair."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gateway_project.bench import peer
from gateway_project.bench.figures import BenchFailed
from gateway_project.bench.peer import Peer
from gateway_project.bench.stage import Stage
from gateway_project.bench.upstream import WHOLE


@dataclass
class Other:
    """Some other gateway, in this process: answers every call with `answer` and keeps the heads of what it was asked."""

    answer: bytes = WHOLE
    heads: list[str] = field(default_factory=list)
    port: int = 0

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                taken, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(taken,), daemon=True).start()

    def _talk(self, taken: socket.socket) -> None:
        with taken:
            while asked := taken.recv(65536):
                self.heads.append(asked.partition(b"\r\n\r\n")[0].decode())
                taken.sendall(self.answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
def other() -> Iterator[Other]:
    found = Other()
    with socket.create_server(("127.0.0.1", 0)) as server:
        found.port = server.getsockname()[1]
        thread = threading.Thread(target=found.serve, args=(server,), daemon=True)
        thread.start()
        yield found
        server.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=5)


def test_both_are_asked_in_turn_and_compared_pair_by_pair(bench_stage: Stage, other: Other) -> None:
    rows = peer.compare(bench_stage, Peer(other.url, "k", "bench"), runs=2, seconds=0.1)
    assert [row.name for row in rows] == [
        f"{who}, {connections}"
        for connections in ("1 connection", "16 connections")
        for who in ("Gatehouse", "peer", "Gatehouse by peer")
    ]
    assert all(len(row.values) == 2 for row in rows)
    for ours, theirs, ratio in (rows[:3], rows[3:]):
        assert ratio.values == [one / another for one, another in zip(ours.values, theirs.values, strict=True)]
        assert min(ours.median, theirs.median) > 10


def test_the_cpu_time_of_a_known_process_is_compared_too(bench_stage: Stage, other: Other) -> None:
    known = Peer(other.url, "k", "bench", pid=os.getpid())  # it serves in this very process
    rows = peer.compare(bench_stage, known, runs=1, seconds=0.4)  # many ticks of the clock that CPU is counted by
    assert [row.unit for row in rows] == ["calls/s", "calls/s", "× calls/s", "calls/CPU-s", "calls/CPU-s", "× calls/CPU-s"] * 2
    assert all(row.median > 0 for row in rows)


def test_its_headers_name_its_key_and_the_providers_address(bench_stage: Stage, other: Other) -> None:
    headers = ("x-portkey-provider: openai", "x-portkey-custom-host: {upstream}")
    peer.compare(bench_stage, Peer(other.url, "their-key", "their-model", headers), runs=1, seconds=0.05)
    lines = other.heads[0].split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert "Authorization: Bearer their-key" in lines
    assert lines[-2:] == ["x-portkey-provider: openai", f"x-portkey-custom-host: {bench_stage.upstream_url}"]


def test_a_peer_that_refuses_voids_the_comparison(bench_stage: Stage, other: Other) -> None:
    other.answer = b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(BenchFailed, match="503"):
        peer.compare(bench_stage, Peer(other.url, "k", "m"), runs=1, seconds=0.1)
