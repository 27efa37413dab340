"""What monitors ask: is the process alive, can it serve, and its figures. Served by the lean handler, without a key."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from billing import ledger, spool
from gateway_project.lib import database, findings
from gateway_project.lib import redis as lib_redis
from gateway_project.lib.ending import ending

CHECK_SECONDS = 2.0


async def livez(request: HttpRequest) -> HttpResponse:
    """Touches nothing: a process that answers is alive."""
    return JsonResponse({"status": "ok"})


async def readyz(request: HttpRequest) -> HttpResponse:
    """503 unless calls can be answered: Redis within two seconds, PostgreSQL or room in the spool, a ledger that writes.

    `stopping` from the moment this process was asked to end: whoever still can ask shall send nothing more.
    While rows wait in this host's spool it says `degraded`, how many, and since when. `ledger` is named only where this
    worker's takes no calls (billing/ledger.py). Providers that are down do not count.
    """
    postgres, redis, waiting = await asyncio.gather(
        _answers(database.rows("SELECT 1")),
        _answers(lib_redis.scripts().command("PING")),
        asyncio.to_thread(spool.backlog),
    )
    named = {True: "ok", False: "unavailable"}
    writes = ledger.takes_calls()
    ready = redis and writes and (postgres or await asyncio.to_thread(spool.takes_rows))
    status = "unavailable" if not ready else "ok" if postgres and not waiting.rows else "degraded"
    if ending.is_asked:
        status, ready = "stopping", False
    answer: dict[str, object] = {"status": status, "postgres": named[postgres], "redis": named[redis]}
    if not writes:
        answer["ledger"] = named[writes]
    if waiting.rows:
        answer |= {"spooled_rows": waiting.rows, "spooled_since": waiting.since.isoformat() if waiting.since else None}
    return JsonResponse(answer, status=200 if ready else 503)


async def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text, of all processes where PROMETHEUS_MULTIPROC_DIR is set. Never labelled by key or organization.

    What is called how often is nobody's business: only for METRICS_TOKEN's bearer, or, where none is set, this machine.
    """
    if not _may_read(request):
        return JsonResponse({"error": "send METRICS_TOKEN as a bearer token"}, status=401)
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    text = generate_latest(registry)
    with contextlib.suppress(lib_redis.RedisUnavailable):  # its own figures are told all the same
        text += generate_latest(await findings.registry())
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        return constant_time_compare(request.META.get("HTTP_AUTHORIZATION", ""), f"Bearer {settings.METRICS_TOKEN}")
    return request.META.get("REMOTE_ADDR") in ("127.0.0.1", "::1")


async def _answers(question: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await question
    except (database.DatabaseUnavailable, lib_redis.RedisUnavailable, TimeoutError):
        return False
    return True


urlpatterns = [path("livez", livez), path("readyz", readyz), path("metrics", metrics)]
