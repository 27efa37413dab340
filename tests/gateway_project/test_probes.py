"""Readiness when a server is away; with both there, see test_asgi.py."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest
from prometheus_client import Counter, values

from gateway_project import probes
from gateway_project.lib import findings, lifespan, redis

EVERYTHING_ANSWERS = {"status": "ok", "postgres": "ok", "redis": "ok"}


@pytest.fixture(autouse=True)
def own_spool(settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_FOLDER = tmp_path / "spool"


@pytest.fixture(autouse=True)
def own_hooks() -> Iterator[None]:
    kept = lifespan._shutdown[:]
    lifespan._shutdown.clear()
    yield
    lifespan._shutdown[:] = kept


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def ask() -> tuple[int, dict[str, Any]]:
    async def once() -> Any:
        try:
            async with asyncio.timeout(probes.CHECK_SECONDS + 1):  # never longer, whatever the servers do
                return await probes.readyz(HttpRequest())
        finally:
            await lifespan.stop()

    response = asyncio.run(once())
    return response.status_code, json.loads(response.content)


def scraped() -> str:
    """What a monitor on this machine reads."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = "127.0.0.1"

    async def once() -> str:
        try:
            return (await probes.metrics(request)).content.decode()
        finally:
            await lifespan.stop()

    return asyncio.run(once())


def test_it_is_ready_when_both_answer() -> None:
    assert ask() == (200, EVERYTHING_ANSWERS)


@pytest.mark.parametrize("taken", [True, False], ids=["silent", "refusing"])
def test_without_redis_it_is_not_ready(settings: Any, silent_port: int, taken: bool) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{silent_port if taken else 9}/0"
    assert ask() == (503, EVERYTHING_ANSWERS | {"status": "unavailable", "redis": "unavailable"})


@pytest.mark.parametrize("taken", [True, False], ids=["silent", "refusing"])
def test_without_postgres_it_is_ready_and_degraded(monkeypatch: pytest.MonkeyPatch, silent_port: int, taken: bool) -> None:
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", str(silent_port if taken else 9))
    assert ask() == (200, EVERYTHING_ANSWERS | {"status": "degraded", "postgres": "unavailable"})


def test_figures_of_all_processes_are_joined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("prometheus_client.metrics.values.ValueClass", values.MultiProcessValue())  # type: ignore[no-untyped-call]
    Counter("gatehouse_probe_test", "Only for this test", registry=None).inc(3)
    assert "gatehouse_probe_test_total 3.0" in scraped()


def test_what_background_work_found_is_told_by_every_web_process() -> None:
    redis.client().delete(findings.NAME)
    assert "gatehouse_audit_faults" not in scraped(), "nobody has looked yet"
    findings.note_faults(0)
    findings.add_differences(2)
    findings.add_differences(3)
    text = scraped()
    assert "\ngatehouse_audit_faults 0.0\n" in text
    assert "\ngatehouse_counter_differences_total 5.0\n" in text


def test_without_redis_a_process_tells_its_own_figures(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    text = scraped()
    assert "python_info" in text
    assert "gatehouse_counter_differences_total" not in text


def test_figures_are_not_for_strangers() -> None:
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = "203.0.113.9"

    assert asyncio.run(probes.metrics(request)).status_code == 401
