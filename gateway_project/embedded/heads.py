"""uvicorn's HTTP/1.1, with two things less to do for each call.

The head of an answer leaves together with the first part of its body. uvicorn writes each of them as it comes: two system
calls and two packets that wake the client twice, a twentieth of all that a governed call costs this process.

Who serves a request can be told at once that its client has gone (gateway_project/lib/lean.py: UntilClientGone), instead
of keeping a task that waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway_project.lib.lean import DISCONNECT

HEAD = b"HTTP/1.1 "


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
