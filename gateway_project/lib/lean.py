"""A lean ASGI handler for programs' routes: no middleware, no threads, no signals, no redirect, never HTML.

Django's own handler makes a thread executor per request and runs the middleware stack, which costs several times the
work of a proxied call. This one reads the body, resolves the path in one URLconf, awaits the view, sends its response.

Guarantees
1. Bodies above the limit are never kept: they are read past and answered 413.
2. When the client goes away, the view (or the stream it returned) is cancelled, its `finally` blocks run to their end,
   and only then does the handler return. So it does when a server that stops cancels it: then, before the first byte, the
   client is told (`ServerStops`). `CancelledError` goes no further.
3. Whatever fails before the first byte becomes `error_response(path, exception)`. After it, the connection is cut,
   so that the client cannot take the beginning for the whole.
Views must be coroutine functions and must not use the ORM: nothing here closes its connections.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from io import BytesIO
from typing import Any, Protocol

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.response import SimpleTemplateResponse
from django.urls import Resolver404, ResolverMatch, get_resolver

from gateway_project.lib import patience
from gateway_project.lib.patience import Patience

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ErrorResponse = Callable[[str, Exception], HttpResponse]

DISCONNECT = "gatehouse.disconnect"

# A client that is still sending would not read the answer: its bytes are thrown away, but not for ever.
DRAIN_SECONDS = 10.0

# A client that takes nothing for so long has left without saying so; what its call holds must not stay held.
SEND_SECONDS = 60.0
# Nor does a body take longer, however slowly it is sent.
BODY_SECONDS = 120.0

logger = logging.getLogger(__name__)


class RouteNotFound(Exception):
    """No route has this path."""


class MethodNotAllowed(Exception):
    """The route exists, but not for this method. `allow` names those it has."""

    def __init__(self, method: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(method)
        self.method = method
        self.allow = allow


class BodyTooLarge(Exception):
    """The request's body passes `limit` bytes."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class BadRequestLine(Exception):
    """The request's path, query or headers cannot be decoded."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class ServerStops(Exception):
    """The server has waited for its answers long enough."""


class LeanHandler:
    """An ASGI application over one URLconf."""

    def __init__(
        self, urlconf: str, *, error_response: ErrorResponse, max_body_bytes: int, send_seconds: float = SEND_SECONDS
    ) -> None:
        self._resolver = get_resolver(urlconf)
        # Imports the views now: the first call should not wait for it, and a broken route should not start.
        _ = self._resolver.url_patterns
        # Of paths without a parameter, so as many as the URLconf has: nearly all calls have one of very few.
        self._matches: dict[str, ResolverMatch] = {}
        self._error_response = error_response
        self._max_body_bytes = max_body_bytes
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with patience.within(BODY_SECONDS):
                body = await read_body(scope, receive, limit=self._max_body_bytes)
        except (ClientGone, TimeoutError):
            return
        except BodyTooLarge as error:
            await _send(self._error(scope, error), scope, send, close=True)
            return
        except asyncio.CancelledError:
            await _send(self._error(scope, ServerStops()), scope, send, close=True)
            return
        async with UntilClientGone(scope, receive) as until:
            await self._answer(scope, body, send, until)

    async def _answer(self, scope: Scope, body: bytes, send: Send, until: "UntilClientGone") -> None:
        try:
            response = await self._view(scope, body)
        except asyncio.CancelledError:
            if until.client_gone:
                raise
            response = self._error(scope, ServerStops())
        except Exception as error:
            response = self._error(scope, error)
        if isinstance(response, StreamingHttpResponse):
            await _send_stream(response, send, seconds=self._send_seconds)
        else:
            await _send(response, scope, send)

    async def _view(self, scope: Scope, body: bytes) -> HttpResponseBase:
        try:
            request = ASGIRequest(scope, BytesIO(body))
        except UnicodeDecodeError as error:
            raise BadRequestLine(str(error)) from error
        # Set directly, or `request.body` would apply the console's own limit.
        request._body = body
        match = request.resolver_match = self._matches.get(request.path_info) or self._resolve(request.path_info)
        response: HttpResponseBase = await match.func(request, *match.args, **match.kwargs)
        if isinstance(response, SimpleTemplateResponse):
            response.render()
        return response

    def _resolve(self, path: str) -> ResolverMatch:
        try:
            match = self._resolver.resolve(path)
        except Resolver404 as error:
            raise RouteNotFound(path) from error
        if not match.args and not match.kwargs:
            self._matches[path] = match
        return match

    def _error(self, scope: Scope, error: Exception) -> HttpResponse:
        try:
            return self._error_response(scope["path"], error)
        except Exception:
            logger.exception("No error answer could be made")
            return HttpResponse(b'{"error": {"message": "Internal error"}}', status=500, content_type="application/json")


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body. Raises ClientGone, and BodyTooLarge once the client has sent it all (or waits for our 100 Continue)."""
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        if headers.get(b"expect", b"").lower() != b"100-continue":
            await _drain(receive)
        raise BodyTooLarge(limit=limit)
    message = await _receive(receive)
    body: bytes = message.get("body", b"")
    parts, size = [body], len(body)
    while size <= limit and message.get("more_body"):
        message = await _receive(receive)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > limit:
        parts.clear()
        await _drain(receive, more=bool(message.get("more_body")))
        raise BodyTooLarge(limit=limit)
    return body if len(parts) == 1 else b"".join(parts)


async def _receive(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


async def _drain(receive: Receive, *, more: bool = True) -> None:
    """Reads past the rest of a body, keeping nothing."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while more:
                more = bool((await _receive(receive)).get("more_body"))
    except TimeoutError:
        return


class Disconnect(Protocol):
    """What a server may give under `scope["extensions"][DISCONNECT]`: a connection that says itself when it is lost.

    It calls `on_gone`, once, if that is set. A request that is read while the one before is answered shares it with that one.
    """

    is_gone: bool
    on_gone: Callable[[], None] | None


class UntilClientGone:
    """`async with UntilClientGone(…): …` cancels the block when the client goes away. A cancelled block ends quietly, whoever
    cancelled it: beside the client only a server that stops does.

    To be entered once the request has been read: from then on the server only tells of the disconnect. Servers that have
    no `Disconnect` are asked by a task, which costs more than all else that is done here for a call.
    """

    client_gone = False

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._connection: Disconnect | None = scope.get("extensions", {}).get(DISCONNECT)
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "UntilClientGone":
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("the block must run in a task")
        self._watched = task
        if self._connection is None:
            self._watching = asyncio.create_task(self._watch())
        elif self._connection.is_gone:
            self._cancel()
        else:
            self._connection.on_gone = self._cancel
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if self._watching is not None:
            self._watching.cancel()
        elif self._connection is not None and self._connection.on_gone == self._cancel:  # else the next request's
            self._connection.on_gone = None
        if self.client_gone:
            self._watched.uncancel()
        return kind is asyncio.CancelledError

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel()

    def _cancel(self) -> None:
        self.client_gone = True
        self._watched.cancel("the client closed the connection")


async def _send(response: HttpResponseBase, scope: Scope, send: Send, *, close: bool = False) -> None:
    start = _start(response)
    if close:
        start["headers"].append((b"connection", b"close"))
    content = getattr(response, "content", b"")
    # RFC 9110, sections 8.6 and 6.4.1: neither length nor body with 204 and 304, and no body for HEAD.
    if response.status_code not in (204, 304):
        start["headers"].append((b"content-length", str(len(content)).encode()))
    bare = scope["method"] == "HEAD" or response.status_code in (204, 304)
    await send(start)
    await send({"type": "http.response.body", "body": b"" if bare else content})


async def _send_stream(response: StreamingHttpResponse, send: Send, *, seconds: float) -> None:
    """`seconds` bound each send: a client that takes nothing for so long is treated as one that left."""
    # The view's own iterator: Django wraps it in generators that would not close it when they are closed.
    iterator: AsyncIterator[bytes] = response._iterator  # type: ignore[attr-defined]
    async with aclosing(iterator) as parts:  # type: ignore[type-var]
        await send(_start(response))
        with closing(Patience()) as sending:
            async for part in parts:
                try:
                    with sending.within(seconds):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                except TimeoutError:
                    return  # unfinished: the server cuts the connection
    await send({"type": "http.response.body", "body": b""})


def answered(body: bytes | AsyncIterator[bytes], headers: dict[str, str]) -> HttpResponseBase:
    """An answer, whole or a stream, whose headers, a content type among them, have names in lower case and are ASCII.

    Past Django's own way of setting them, which looks at each of them several times: the server does so once more.
    """
    made = HttpResponse if isinstance(body, bytes) else StreamingHttpResponse
    response: HttpResponseBase = made(body, content_type=headers["content-type"])
    response.headers._store |= {name: (name, value) for name, value in headers.items()}
    return response


def _start(response: HttpResponseBase) -> Message:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, (_, value) in response.headers._store.items()]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
