"""The cost of an admission is measured on real scripts, of calls that were really admitted and settled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway_project.bench import admission
from gateway_project.lib import redis
from guardrails import counters


@pytest.fixture
def figures() -> dict[str, float]:
    return asyncio.run(admission.measure(calls=192))


def test_each_figure_is_some_microseconds(figures: dict[str, float]) -> None:
    assert set(figures) == {"worker_us", "admit_us", "settle_us"}
    assert all(1 < value < 1_000_000 for value in figures.values())


def test_every_call_was_admitted_settled_and_holds_nothing(figures: dict[str, float]) -> None:
    client: Any = redis.client()
    token = str(client.get(counters.GENERATION).decode().partition(":")[2])
    found = [key for key in client.scan_iter(match=f"gh:*:{token}:c:g2", count=1000) if client.hget(key, "spent") == b"173700000"]
    assert found
    assert {client.hget(key, "held") for key in found} == {b"0"}


def test_nine_limits_of_every_kind_that_is_counted() -> None:
    limits = admission.nine_limits(1, "t")
    assert len(limits.judged) == 9
    assert {limit.kind for limit in limits.limits} == {"budget", "rpm", "tpm", "rpd", "parallel"}
