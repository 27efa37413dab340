"""One HTTP/1.1 connection to a provider (RFC 9112), for one exchange after another; llhttp reads the answers.

Our own, because this is what a gateway does all day: an exchange by general clients cost five times as much of this
process as one of these. What belongs to a browser (redirects, cookies, proxies, retries) is not here at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

# What waits here unread, before the provider is asked to wait.
MOST_UNREAD_BYTES = 256 * 1024
# Of one head; and of what an answer may bring between two pieces of its body, or behind the last: names, not content.
MAX_HEAD_BYTES = 128 * 1024
# A head and a small body leave as one write.
JOINED_BYTES = 64 * 1024


class Broken(ConnectionError):
    """The connection ended, or (`garbled`) brought what is no HTTP, before the answer was complete."""

    def __init__(self, why: str, *, garbled: bool = False) -> None:
        super().__init__(why)
        self.garbled = garbled


class Connection(asyncio.Protocol):
    """Not to be asked anything before the answer to the last request is `complete`.

    `status` is 0 until the head of the answer is here; `headers` have names in lower case, of several the last one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, ended: Callable[[Connection], None]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = True
        self._loop, self._ended = loop, ended
        self._transport = cast("asyncio.Transport", None)
        self._parser = cast("httptools.HttpResponseParser", None)
        self._read: list[tuple[bytes, bytes]] = []
        self._bare_bytes = self._unread = 0
        self._parts: list[bytes] = []
        self._is_interim = self._is_paused = self._keeps = False
        self._broken = ""
        self._garbled = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Not a byte has come since the last request was sent."""
        return not self.status and not self._bare_bytes

    @property
    def can_be_used_again(self) -> bool:
        """The answer is complete, both sides mean to go on, nobody waits here and nothing of the request is still on its way.

        Nor is reading paused: nobody would hear of it if the provider closed it meanwhile.
        """
        is_over = self.complete and self._keeps and self._waiter is None and not self._is_paused
        return is_over and self.is_open and not self._transport.get_write_buffer_size()

    @property
    def has_news(self) -> bool:
        """`take` will not have to say that there is nothing yet."""
        return bool(self._parts or self.complete or self._broken)

    def ask(self, head: bytes, body: bytes) -> None:
        """Sends a request. `head`: with its empty line. What nobody took of the last answer is forgotten."""
        if self._parts:
            self.take()
        self.status, self.headers, self.complete = 0, {}, False
        self._bare_bytes, self._keeps, self._parser = 0, False, httptools.HttpResponseParser(self)
        # As forgiving as other clients: folded header lines, lines that end without CR, blanks behind the size of a chunk.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        if not self.is_open:
            self._break("It was closed before it was used.")
        elif len(body) < JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    async def answered(self) -> None:
        """Returns when `status` and `headers` are known. Raises Broken."""
        while not self.status:
            if self._broken:
                raise Broken(self._broken, garbled=self._garbled)
            await self._wait()

    async def news(self) -> None:
        """Returns as soon as `has_news`."""
        while not self.has_news:
            await self._wait()

    def take(self) -> bytes:
        """What has arrived of the body since the last time; b"" at its end. Raises Broken."""
        if not self._parts:
            if self.complete:
                return b""
            raise Broken(self._broken, garbled=self._garbled)
        part = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._unread = 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        return part

    def close(self) -> None:
        """At once, so that the provider notices: what was not sent yet is not sent. Idempotent."""
        self._transport.abort()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, why: str, *, garbled: bool = False) -> None:
        self._broken, self._garbled = why, garbled
        self.close()
        self._wake()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.complete:  # nothing was asked: whoever speaks all the same is not to be asked again
            self.close()
            return
        self._bare_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keeps = False
            if not self.complete:
                self._break("What it brought is no HTTP.", garbled=True)
                return
        if self._bare_bytes > MAX_HEAD_BYTES and not self.complete:
            self._break("The head of the answer has no end.", garbled=True)
            return
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.complete and not self._broken:
            if self.status and error is None and _ends_with_connection(self.headers):
                self.complete = True
            else:
                self._broken = "It was closed in the middle of an answer."
        self._parser = cast("httptools.HttpResponseParser", None)  # each holds the other
        self._ended(self)
        self._wake()

    # httptools

    def on_message_begin(self) -> None:
        if self.complete:
            raise Broken("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # what follows the last chunk is read by nobody
            self._read.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        read, self._read = self._read, []
        if status < 100:
            raise Broken("no status")
        self._is_interim = status < 200
        if not self._is_interim:
            self.headers = {name.decode("latin-1").lower(): value.decode("latin-1").rstrip(" \t") for name, value in read}
            self.status = status

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)
        self._bare_bytes = 0
        self._unread += len(part)
        if self._unread > MOST_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._is_interim:
            self.complete, self._keeps = True, self._parser.should_keep_alive()


def _ends_with_connection(headers: dict[str, str]) -> bool:
    """RFC 9112, section 6.3: an answer with neither length nor chunks lasts as long as its connection."""
    return "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", "").lower()
