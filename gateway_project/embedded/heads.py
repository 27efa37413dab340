"""The head of an answer leaves together with the first part of its body.

uvicorn writes each of them as it comes. Two writes are two system calls and two packets, and wake the client twice: a
twentieth of all that a governed call costs this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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


class JoinedHeads(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        super().connection_made(cast("asyncio.Transport", Joining(transport, self.loop)))
