"""The proxy's background work."""

import asyncio

from celery import shared_task

from gateway_project.lib import lifespan
from orgs.models import Organization
from proxy import histories, holds, idempotency, kept, proving, refused_keys, video_jobs
from proxy.simulating import running


@shared_task
def resolve_holds() -> int:
    """Ends what dead workers left held. Any number may run at once: each hold is settled once."""
    return asyncio.run(_resolve())


async def _resolve() -> int:
    try:
        return await holds.resolve_all()
    finally:
        await lifespan.stop()


@shared_task
def poll_videos() -> int:
    """Asks about videos that are being made; what failed is given back. Any number may run at once."""
    return asyncio.run(_poll_videos())


async def _poll_videos() -> int:
    try:
        return await video_jobs.poll()
    finally:
        await lifespan.stop()


@shared_task
def prove_counters() -> int:
    """Compares every counter with the ledger; what differs is logged, counted, and read from the ledger anew."""
    found = 0
    for organization in Organization.objects.order_by("pk").iterator():
        proof = proving.prove(organization)
        proving.correct(organization, proof.differences)
        found += len(proof.differences)
    return found


@shared_task
def tell_of_refused_keys() -> int:
    """→ how many people were told. Any number may run at once: each key and episode is told by one of them."""
    return refused_keys.tell()


@shared_task
def forget_expired() -> int:
    """Idempotency keys of yesterday, and kept answers and responses whose time is over → how many rows."""
    return kept.forget_expired() + histories.forget_expired() + idempotency.forget_expired()


@shared_task
def simulate(simulation_id: int, number: int) -> None:
    """Run `number` of a simulation, sent when somebody asks for it. Given to another worker, it begins anew."""
    running.run(simulation_id, number=number)
