"""Coroutines of a worker in tests: what a web process opens is open, and closed again at the end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway_project.lib import lifespan, redis
from guardrails import counters, leases


def with_lease(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs it on a loop of its own, as a worker that has Redis and a lease, but no database.

    Organisations that only exist in Redis are forgotten afterwards: no resolver of another test finds their holds.
    """

    async def alive() -> Any:
        redis.scripts()
        await leases.start()
        try:
            return await work
        finally:
            await lifespan.stop()

    before = active()
    try:
        return asyncio.run(alive())
    finally:
        for organization in active() - before:
            redis.client().srem(counters.ACTIVE_ORGANIZATIONS, organization)


def active() -> set[Any]:
    found: Any = redis.client().smembers(counters.ACTIVE_ORGANIZATIONS)
    return set(found)


def as_worker(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs it on a loop of its own, as a worker of the proxy, which ends in good order."""
    from proxy import startup

    async def alive() -> Any:
        await startup.ensure()
        try:
            return await work
        finally:
            await lifespan.stop()

    return asyncio.run(alive())
