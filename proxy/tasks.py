"""The proxy's background work."""

import asyncio

from celery import shared_task

from gateway_project.lib import lifespan
from proxy import holds


@shared_task
def resolve_holds() -> int:
    """Ends what dead workers left held. Any number may run at once: each hold is settled once."""
    return asyncio.run(_resolve())


async def _resolve() -> int:
    try:
        return await holds.resolve_all()
    finally:
        await lifespan.stop()
