"""Work that a process does again and again falls on the same moments: it wakes once for all of it.

A process that has nothing to do costs what its waking costs: each time the interpreter's own memory has to be fetched anew,
which takes longer than the work itself. Processes of one host beat at different moments.
"""

from __future__ import annotations

import asyncio
import os

# Any irrational number spreads processes that were started one after the other.
GOLDEN = 0.6180339887498949


async def beat(seconds: float) -> None:
    """Sleeps until this process' next moment of those that are `seconds` apart: a quarter of that at least, five at most."""
    await asyncio.sleep(until_beat(seconds, now=asyncio.get_running_loop().time()))


def until_beat(seconds: float, *, now: float) -> float:
    """Who was woken a little early is not woken again at once."""
    left = seconds - (now - os.getpid() * GOLDEN) % seconds
    return left if left > seconds / 4 else left + seconds
