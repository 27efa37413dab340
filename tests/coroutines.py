"""Coroutines of a worker in tests: what a web process opens is open, and closed again at the end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway_project.lib import lifespan, redis
from guardrails import counters, leases
from tests.wire import Wire, wired


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


def as_wired_worker(work: Callable[[Wire], Coroutine[Any, Any, Any]]) -> Any:
    """The same, with every connection to PostgreSQL over a wire that the work can cut."""
    from proxy import startup

    async def alive() -> Any:
        async with wired() as wire:
            await startup.ensure()
            try:
                return await work(wire)
            finally:
                await lifespan.stop()

    return asyncio.run(alive())


def kill(name: str) -> bool:
    """Cancels a task of the running loop, as nobody should. False: there is none of that name at this moment."""
    found = next((task for task in asyncio.all_tasks() if task.get_name() == name), None)
    return found is not None and found.cancel()
