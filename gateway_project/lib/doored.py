"""A lean application behind the console's door: Django judges who asks, then the lean handler serves.

What people call from a page needs the console's session, its protection against forged requests and its permissions; and
it needs a stream that notices when its reader leaves. The console has the first, the lean handler the second. So the console
is asked about the bare request (method, path, headers, no body) at the same path. Its 204 lets the request in; any other
answer goes to the client as it is, and the lean application never hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway_project.lib.lean import Message, Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
LET_IN = 204


class BehindConsole:
    """An ASGI application. A view of `console` at the same path must answer 204 and nothing else to let a request in."""

    def __init__(self, console: Application, served: Application) -> None:
        self._console = console
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        verdict = await _verdict(self._console, scope)
        if verdict[0]["status"] == LET_IN:
            await self._served(scope, receive, send)
            return
        for message in verdict:
            await send(message)


async def _verdict(console: Application, scope: Scope) -> list[Message]:
    """The whole answer. What was written to the page's route stays unread: it is no business of the console's."""
    answer: list[Message] = []
    unread = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        for message in unread:
            return message
        await asyncio.Event().wait()  # no disconnect: whoever serves the request watches for that
        raise AssertionError("nothing sets the event")

    async def send(message: Message) -> None:
        answer.append(message)

    await console(scope, receive, send)
    return answer
