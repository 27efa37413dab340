"""A worker that kills itself, as the kernel would, the moment a function is entered or left.

`python -m tests.proxy.dying FILE FUNCTION call|return KEY spool|drain` tells, a line each: the name of its lease, and where it
spools a call of its own, the id of that and that it was answered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NamedTuple, cast

import django

TOLD = "told: "
LONG_SECONDS = 20


class House(NamedTuple):
    """As much of one as a call needs."""

    key_text: str


def tell(words: object) -> None:
    sys.stdout.write(f"{TOLD}{words}\n")
    sys.stdout.flush()


async def spool_one(key_text: str) -> None:
    from guardrails import leases
    from proxy import recording, settling, startup
    from tests import house
    from tests.proxy.calls import admitted
    from tests.wire import wired

    async with wired() as wire:
        await startup.ensure()
        tell(leases.worker_id())
        call = await admitted(cast(house.House, House(key_text)))
        tell(call.id)
        row = recording.cancelled(call)
        row.charged_nano_usd = row.list_nano_usd = 1234
        wire.cut("refused")
        sys.setprofile(watch)
        threading.setprofile(watch)
        await settling.close(call, row)
        tell("answered")
        wire.mode = "through"
        await asyncio.sleep(LONG_SECONDS)


async def drain_others(_: str) -> None:
    from guardrails import leases
    from proxy import draining, startup

    await startup.ensure()
    tell(leases.worker_id())
    sys.setprofile(watch)
    await draining.drain_the_dead()
    await asyncio.sleep(LONG_SECONDS)


def watch(frame: FrameType, happened: str, _: Any) -> None:
    file, function, event = sys.argv[1:4]
    if frame.f_code.co_name == function and happened == event and frame.f_code.co_filename.endswith(file):
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    django.setup()
    key_text, what = sys.argv[4:]
    asyncio.run({"spool": spool_one, "drain": drain_others}[what](key_text))


if __name__ == "__main__":
    main()
