"""uvicorn's HTTP/1.1, with two things less to do for each call and one that it does not do.

The head of an answer leaves together with the first part of its body. uvicorn writes each of them as it comes: two system
calls and two packets that wake the client twice, a twentieth of all that a governed call costs this process.

Who serves a request can be told at once that its client has gone (gateway_project/lib/lean.py: UntilClientGone), instead
of keeping a task that waits for it.

A request that offers another protocol as well (`Upgrade: h2c`) is answered in this one, as RFC 9110, 7.8 has it. Every stock
client of the JDK sends such offers where there is no TLS, and uvicorn loses the bodies of their requests
(https://github.com/Kludex/uvicorn/issues/2722).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway_project.lib.lean import DISCONNECT

HEAD = b"HTTP/1.1 "
# What offers another protocol, and what such an offer says beside it.
OFFERS = (b"upgrade", b"http2-settings")


class Joining:
    """A transport that keeps a head until something follows it, but never beyond this turn of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, piece: bytes) -> None:
        if self._head:
            piece, self._head = self._head + piece, b""
        elif piece[: len(HEAD)] == HEAD:
            self._head = piece
            self._loop.call_soon(self._flush)
            return
        self._transport.write(piece)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 over such a transport."""

    is_gone = False
    on_gone: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        super().connection_made(cast("asyncio.Transport", Joining(transport, self.loop)))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_gone, on_gone, self.on_gone = True, self.on_gone, None
        if on_gone is not None:
            on_gone()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {DISCONNECT: self}  # type: ignore[dict-item] # uvicorn declares dictionaries there

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._is_declined:
                self._read_on(data[offer.args[0] :])
            elif self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        if not self._is_declined:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._is_declined:
            super().on_message_complete()

    @property
    def _is_declined(self) -> bool:
        """Whether the request at hand offers another protocol than WebSocket. Its parser has stopped behind the head."""
        return self.parser.should_upgrade() and self._get_upgrade() is not None and not self._should_upgrade()

    def _get_upgrade(self) -> bytes | None:
        """As uvicorn's, but for connections told in several lines, of which that one reads only the last."""
        told = b",".join(value for name, value in self.headers if name == b"connection").lower()
        if b"upgrade" not in [token.strip() for token in told.split(b",")]:
            return None
        return next((value.lower() for name, value in reversed(self.headers) if name == b"upgrade"), None)

    def _read_on(self, rest: bytes) -> None:
        """The same request without its offer, and what came behind its head."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in OFFERS)
            if name not in OFFERS:
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)
