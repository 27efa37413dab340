"""The HTTP client of every provider: a request, mostly a POST, and an answer that is read whole or as a stream.

Guarantees: nothing is sent twice but where a kept connection turns out to be closed, and then once; no redirect is followed;
each wait is bounded (connect, first byte, idle); whatever goes wrong is an `AttemptFailed` whose message holds no credential; a
request cancelled at any point closes its connection.
"""

import functools
import math
import ssl
import time
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import httpx

from gateway_project.lib.patience import Patience, within
from proxy.errors import AttemptFailed
from proxy.protocols.failures import read_failure
from proxy.providers import transport
from proxy.providers.base import EVENT_STREAM, Target, Timeouts
from proxy.providers.coding import unpacking_of
from proxy.providers.connection import Broken, Connection

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
# Of what arrives compressed, at a time.
DECODED_BYTES = 16 * 1024
MAX_RETRY_AFTER = 86_400.0
# Within it a kept connection that ends in silence was being closed as it was used: a provider that had begun to work would
# have had to fail at the same moment.
CLOSED_MEANWHILE_SECONDS = 1.0
USER_AGENT = "gatehouse"
_JSON, _HTML = "application/json", "text/html"
_ACCEPTED = {True: EVENT_STREAM, False: _JSON, None: f"{EVENT_STREAM}, */*"}
_MOVES = (301, 302, 303, 307, 308)
# Not twice, and not by what makes a gigabyte of a kilobyte.
_UNDONE = ("gzip", "x-gzip", "deflate")
_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535
NOT_VALID = "The provider's base URL is not valid."
UNANSWERED = "The provider closed the connection without an answer."
BROKEN_OFF = "The provider broke off its answer."
GARBLED = "What the provider sent is no HTTP answer."


async def open(
    target: Target,
    *,
    url: str,
    headers: dict[str, str],
    body: bytes,
    stream: bool | None,
    method: str = "POST",
    may_move: bool = False,
) -> "OpenAnswer":
    """Sends `body` to `url`. Raises AttemptFailed unless the answer is a 200 of the asked kind, or with `may_move` a redirect.

    `stream` None takes either kind. `headers` (names in lower case) come before the client's own defaults; the target's come
    before both.
    """
    started = time.monotonic()
    patience = Patience()
    pool = transport.shared()
    try:
        place = _place(url, target.is_tenants)
        head = _head(method, place.path, _headers(target, place, headers, stream=stream), length=len(body))
        with patience.within(target.timeouts.first_byte):
            connection = await _asked(pool, place.origin, head, body, target.timeouts, is_idempotent=method != "POST")
    except BaseException as error:
        patience.close()
        if isinstance(error, TimeoutError):
            raise AttemptFailed("timeout", f"The provider sent nothing for {target.timeouts.first_byte:g} seconds.") from error
        if isinstance(error, Broken):
            raise AttemptFailed("broken", GARBLED if error.garbled else UNANSWERED) from error
        raise
    answer = OpenAnswer(pool, connection, target.timeouts, patience=patience, waited=time.monotonic() - started)
    try:
        if not (may_move and answer.status in _MOVES and answer.headers.get("location")):
            await _require_success(answer, target, stream=stream)
    except BaseException:
        await answer.close()
        raise
    return answer


async def _asked(
    pool: transport.Pool, origin: transport.Origin, head: bytes, body: bytes, timeouts: Timeouts, *, is_idempotent: bool
) -> Connection:
    """One whose answer has begun. Raises AttemptFailed, Broken."""
    if (kept := pool.kept(origin)) is not None:
        asked = time.monotonic()
        try:
            return await _answering(kept, head, body)
        except Broken:
            if not (is_idempotent or (kept.is_silent and time.monotonic() - asked < CLOSED_MEANWHILE_SECONDS)):
                raise
    return await _answering(await _connected(pool, origin, timeouts), head, body)


async def _answering(connection: Connection, head: bytes, body: bytes) -> Connection:
    try:
        connection.ask(head, body)
        await connection.answered()
    except BaseException:
        connection.close()
        raise
    return connection


async def _connected(pool: transport.Pool, origin: transport.Origin, timeouts: Timeouts) -> Connection:
    """Raises AttemptFailed; TimeoutError where that takes even longer than an answer may."""
    try:
        with within(timeouts.connect):
            return await pool.connected(origin)
    except TimeoutError as error:
        raise AttemptFailed("timeout", f"No connection to the provider within {timeouts.connect:g} seconds.") from error
    except ssl.SSLCertVerificationError as error:
        raise AttemptFailed("connect", "The provider's TLS certificate could not be verified.") from error
    except ssl.SSLError as error:
        raise AttemptFailed("connect", "The provider's address does not speak TLS as it should.") from error
    except (OSError, ValueError, RuntimeError) as error:  # the last where uvloop finds a socket's number still in use
        raise AttemptFailed("connect", "The provider cannot be reached.") from error


class OpenAnswer:
    """An open HTTP answer (`providers.base.Upstream`)."""

    def __init__(
        self, pool: transport.Pool, connection: Connection, timeouts: Timeouts, *, patience: Patience, waited: float
    ) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self.content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._pool, self._connection = pool, connection
        self._is_closed = False
        self._patience = patience
        self._idle = timeouts.idle
        # Some providers send headers at once and think afterwards: that wait is the first byte's.
        self._wait = max(timeouts.idle, timeouts.first_byte - waited)
        self.encoding = self.headers.get("content-encoding", "identity").strip().lower()
        # We ask for no compression; where a proxy in between compresses all the same, it is undone.
        self._decoded = self._decoding() if self.encoding in _UNDONE else None

    async def body(self) -> bytes:
        """At most 64 MB. Raises AttemptFailed; an empty answer is a broken one."""
        content = await self._read(MAX_BODY_BYTES + 1)
        if len(content) > MAX_BODY_BYTES:
            raise AttemptFailed("broken", f"The provider's answer is larger than {MAX_BODY_BYTES >> 20} MB.")
        if not content.strip():
            raise AttemptFailed("broken", "The provider's answer is empty.")
        return content

    async def beginning(self) -> bytes:
        """The first 64 KB, or what arrived of them: for error answers."""
        return (await self._read(MAX_ERROR_BYTES))[:MAX_ERROR_BYTES]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises AttemptFailed: timeout when no byte came for `idle` seconds, broken when the connection did."""
        take = self._next
        while chunk := await take():
            yield chunk

    async def close(self) -> None:
        """Idempotent. An answer that was not read to its end takes the connection with it, so the provider notices."""
        self._patience.close()
        if not self._is_closed:
            self._is_closed, self._decoded = True, None
            self._pool.give_back(self._connection)

    @property
    def _next(self) -> Callable[[], Awaitable[bytes]]:
        """Gives what came of the content since the last time; b"" at the end. Looked up anew: an answer that held its own
        method would be garbage only for the collector of cycles."""
        return self._arriving if self._decoded is None else partial(anext, self._decoded, b"")

    async def _arriving(self) -> bytes:
        """What has arrived since the last time, or arrives next; b"" at the end. Raises AttemptFailed."""
        if self._is_closed:  # what arrives there now may be the answer to somebody else
            raise AttemptFailed("broken", "The provider's answer was given up.")
        try:
            if not self._connection.has_news:
                with self._patience.within(self._wait):
                    await self._connection.news()
            self._wait = self._idle
            return self._connection.take()
        except TimeoutError as error:
            raise AttemptFailed("timeout", f"The provider's answer stood still for {self._wait:g} seconds.") from error
        except Broken as error:
            raise AttemptFailed("broken", GARBLED if error.garbled else BROKEN_OFF) from error

    async def _decoding(self) -> AsyncIterator[bytes]:
        """In small pieces, for each is unpacked whole and may become a thousand times as long."""
        unpacking = unpacking_of(self.encoding)
        try:
            while part := await self._arriving():
                for start in range(0, len(part), DECODED_BYTES):
                    if chunk := unpacking.feed(part[start : start + DECODED_BYTES]):
                        yield chunk
        except zlib.error as error:
            raise AttemptFailed("broken", "The provider's answer is not compressed as it says.") from error

    async def _read(self, limit: int) -> bytes:
        parts, size, take = [], 0, self._next
        while size < limit and (part := await take()):
            parts.append(part)
            size += len(part)
        return b"".join(parts)


async def _require_success(answer: OpenAnswer, target: Target, *, stream: bool | None) -> None:
    if answer.status != 200:
        raise await _refused(answer, target)
    if answer.encoding not in (*_UNDONE, "identity", ""):
        raise AttemptFailed("broken", "The provider compressed its answer in a way that was not asked for.", status=answer.status)
    if answer.content_type == _HTML:
        raise AttemptFailed("broken", "The provider answered with an HTML page.", status=answer.status)
    if stream and answer.content_type == _JSON:
        raise read_failure(await answer.beginning(), status=None, secrets=target.secrets)
    if stream is False and answer.content_type == EVENT_STREAM:
        raise AttemptFailed("broken", "The provider answered with a stream though none was asked for.", status=answer.status)


async def _refused(answer: OpenAnswer, target: Target) -> AttemptFailed:
    try:
        body = await answer.beginning()
    except AttemptFailed:
        body = b""
    wait = retry_after(answer.headers)
    return read_failure(body, status=answer.status, retry_after=wait, secrets=target.secrets)


def retry_after(headers: dict[str, str]) -> float | None:
    """Seconds, from `retry-after-ms` or `retry-after` (a number or an HTTP date); None where it says nothing sane."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            seconds = _seconds(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


class _Place(NamedTuple):
    origin: transport.Origin
    path: str
    host: str
    authorization: str


@functools.lru_cache(maxsize=1024)
def _place(url: str, is_tenants: bool) -> _Place:
    """Raises AttemptFailed."""
    try:
        parsed = httpx.URL(url)
        port = parsed.port or _PORTS[parsed.scheme]
        host = parsed.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError, KeyError) as error:
        raise AttemptFailed("connect", NOT_VALID) from error
    if parsed.scheme not in _PORTS or port > MAX_PORT or not host:
        raise AttemptFailed("connect", NOT_VALID)
    return _Place(
        transport.Origin(parsed.scheme, host, port, is_tenants),
        path=parsed.raw_path.decode("ascii"),
        host=parsed.netloc.decode("ascii"),
        authorization=f"Basic {b64encode(unquote_to_bytes(parsed.userinfo)).decode()}" if parsed.userinfo else "",
    )


def _headers(target: Target, place: _Place, headers: dict[str, str], *, stream: bool | None) -> dict[str, str]:
    own = {
        "host": place.host,
        "content-type": _JSON,
        "accept": _ACCEPTED[stream],
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
    }
    if place.authorization:
        own["authorization"] = place.authorization
    own.update(headers)
    for name, value in target.headers.items():
        own[name.lower()] = value
    return own


def _head(method: str, path: str, headers: dict[str, str], *, length: int) -> bytes:
    """Of a request (RFC 9112, section 3). Raises AttemptFailed for what would end a header before its end."""
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length or method != "GET":
        lines.append(f"content-length: {length}")
    head = "\r\n".join(lines)
    breaks = len(lines) - 1
    try:
        if head.count("\n") == head.count("\r") == breaks and "\0" not in head:
            return f"{head}\r\n\r\n".encode("latin-1")
    except UnicodeEncodeError:
        pass
    raise AttemptFailed("broken", "A header for the provider has a character that no header can have.")
