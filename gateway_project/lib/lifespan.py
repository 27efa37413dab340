"""What a web process does when it starts and before it ends.

Whoever opens something that outlives a call registers its closing here, at import or at first use. Closings run in
reverse order: what was opened last, and may still need what was opened before it, goes first.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

Hook = Callable[[], Awaitable[object]]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

logger = logging.getLogger(__name__)

_startup: list[Hook] = []
_shutdown: list[Hook] = []


def on_startup(hook: Hook) -> Hook:
    """To be awaited before the first request; an exception keeps the server from starting. Usable as a decorator."""
    _startup.append(hook)
    return hook


def on_shutdown(hook: Hook) -> Hook:
    """To be awaited once, after the last request. Usable as a decorator."""
    _shutdown.append(hook)
    return hook


async def start() -> None:
    for hook in _startup:
        await hook()


async def stop() -> None:
    """Runs every closing, whatever the others raise; one registered by now is not run again."""
    while _shutdown:
        hook = _shutdown.pop()
        try:
            await hook()
        except Exception:
            logger.exception("A shutdown step failed: %s", getattr(hook, "__qualname__", hook))


async def serve(receive: Receive, send: Send) -> None:
    """The ASGI lifespan protocol (https://asgi.readthedocs.io/en/latest/specs/lifespan.html)."""
    await receive()
    try:
        await start()
    except Exception as error:
        logger.exception("A startup step failed")
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await stop()
    await send({"type": "lifespan.shutdown.complete"})
