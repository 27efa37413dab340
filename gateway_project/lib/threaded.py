"""Django's handler for pages, with threads that stay.

Django's own gives each request a thread of its own, and with it a new connection to PostgreSQL; and its middleware goes from
the event loop to that thread and back at every step. Here a request runs whole, from its first signal to its last, in one of
a few threads, which keep their connections (CONN_MAX_AGE).

A thread is held while the request is worked on only, not while its body arrives or its answer leaves: slow clients hold none.
A stream has a thread of its own while it lasts.
"""

from __future__ import annotations

from asyncio import LifoQueue
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import IO

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.signals import request_started
from django.db import connections
from django.http import HttpResponseBase
from django.urls import set_script_prefix

from gateway_project.lib.lean import Receive, Scope, Send, UntilClientGone

Answer = Callable[[Scope, IO[bytes]], Awaitable[HttpResponseBase]]


class ThreadedHandler(ASGIHandler):
    """An ASGI application. `threads`: how many requests are worked on at once; others wait."""

    def __init__(self, *, threads: int) -> None:
        super().__init__()
        # The thread that was free last comes first: its connection is warm, and those that many at once needed can grow old.
        self._free: LifoQueue[Answer] = LifoQueue()
        for _ in range(threads):
            self._free.put_nowait(self._in_a_thread())

    def load_middleware(self, is_async: bool = False) -> None:
        """One chain without a step through the event loop, whatever is asked for."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with closing(body):
            answer = await self._free.get()
            try:
                response = await answer(scope, body)
            finally:
                self._free.put_nowait(answer)
            if response.streaming:
                await self._stream(response, scope, receive, send)
            else:
                await self.send_response(response, send)  # type: ignore[arg-type]

    def _in_a_thread(self) -> Answer:
        thread = ThreadPoolExecutor(1, thread_name_prefix="console")
        return sync_to_async(self._answered, thread_sensitive=False, executor=thread)

    def _answered(self, scope: Scope, body: IO[bytes]) -> HttpResponseBase:
        """In a thread. A stream is still to be closed; anything else is done with, and ready to be sent."""
        set_script_prefix(get_script_prefix(scope))
        request_started.send(sender=type(self), scope=scope)
        request, refusal = self.create_request(scope, body)
        response = refusal if request is None else self.get_response(request)
        assert response is not None  # noqa: S101 - without a request there is a refusal
        response._handler_class = type(self)  # type: ignore[attr-defined]
        if not response.streaming:
            response.close()
        return response

    async def _stream(self, response: HttpResponseBase, scope: Scope, receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext(), UntilClientGone(scope, receive):
            try:
                await self.send_response(response, send)  # type: ignore[arg-type]
            finally:
                await sync_to_async(_end)(response)


def _end(response: HttpResponseBase) -> None:
    """In the stream's thread, whose connection nobody else will use."""
    response.close()
    connections.close_all()
