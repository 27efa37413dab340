"""The HTTP client of every provider: a request, mostly a POST, and an answer that is read whole or as a stream.

Guarantees: no retry, no redirect; each wait is bounded (connect, first byte, idle); whatever goes wrong is an
`AttemptFailed` whose message holds no credential; a request cancelled at any point closes its connection.
"""

import functools
import math
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

import aiohttp
import httpx

from gateway_project.lib.patience import Patience
from proxy.errors import AttemptFailed
from proxy.protocols.failures import read_failure
from proxy.providers import transport
from proxy.providers.base import Target, Timeouts

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
MAX_RETRY_AFTER = 86_400.0
USER_AGENT = "gatehouse"
_EVENT_STREAM, _JSON, _HTML = "text/event-stream", "application/json", "text/html"
_MOVES = (301, 302, 303, 307, 308)
_NETWORK_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)


async def open(
    target: Target, *, url: str, headers: dict[str, str], body: bytes, stream: bool, method: str = "POST", may_move: bool = False
) -> "OpenAnswer":
    """Sends `body` to `url`. Raises AttemptFailed unless the answer is a 200 of the asked kind, or with `may_move` a redirect.

    `headers` (names in lower case) come before the client's own defaults; the target's come before both.
    """
    started = time.monotonic()
    patience = Patience()
    try:
        request = _request(
            method, url, headers=_headers(target, headers, stream=stream), body=body, connect=target.timeouts.connect
        )
        with patience.within(target.timeouts.first_byte):
            response = await transport.shared(public_only=target.is_tenants).handle_async_request(request)
    except BaseException as error:
        patience.close()
        if isinstance(error, TimeoutError):
            raise AttemptFailed("timeout", f"The provider sent nothing for {target.timeouts.first_byte:g} seconds.") from error
        if isinstance(error, _NETWORK_ERRORS):
            raise _unreachable(error, target.timeouts) from error
        raise
    answer = OpenAnswer(response, target.timeouts, patience=patience, waited=time.monotonic() - started)
    try:
        if not (may_move and answer.status in _MOVES and answer.headers.get("location")):
            await _require_success(answer, target, stream=stream)
    except BaseException:
        await answer.close()
        raise
    return answer


class OpenAnswer:
    """An open HTTP answer (`providers.base.Upstream`)."""

    def __init__(self, response: httpx.Response, timeouts: Timeouts, *, patience: Patience, waited: float) -> None:
        self.status = response.status_code
        # Decoded here: httpx guesses an encoding for every header it is asked for.
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
        self.content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._response = response
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._patience = patience
        self._idle = timeouts.idle
        # Some providers send headers at once and think afterwards: that wait is the first byte's.
        self._first = max(timeouts.idle, timeouts.first_byte - waited)

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
        encoded = self.headers.get("content-encoding", "identity") != "identity"
        # We ask for no compression; where a proxy in between compresses all the same, httpx undoes it.
        parts = aiter(self._response.aiter_bytes() if encoded else self._stream)
        wait = self._first
        while True:
            try:
                with self._patience.within(wait):
                    chunk = await anext(parts, None)
            except TimeoutError as error:
                raise AttemptFailed("timeout", f"The provider's answer stood still for {wait:g} seconds.") from error
            except _NETWORK_ERRORS as error:
                raise AttemptFailed("broken", "The provider broke off its answer.") from error
            if chunk is None:
                return
            wait = self._idle
            yield chunk

    async def close(self) -> None:
        """Idempotent. An answer that was not read to its end takes the connection with it, so the provider notices."""
        self._patience.close()
        try:
            await self._stream.aclose()
        except _NETWORK_ERRORS:
            # Already broken: there is nothing left to close.
            return

    async def _read(self, limit: int) -> bytes:
        content = bytearray()
        async for chunk in self.chunks():
            content += chunk
            if len(content) >= limit:
                break
        return bytes(content)


async def _require_success(answer: OpenAnswer, target: Target, *, stream: bool) -> None:
    if answer.status != 200:
        raise await _refused(answer, target)
    if answer.content_type == _HTML:
        raise AttemptFailed("broken", "The provider answered with an HTML page.", status=answer.status)
    if stream and answer.content_type == _JSON:
        raise read_failure(await answer.beginning(), status=None, secrets=target.secrets)
    if not stream and answer.content_type == _EVENT_STREAM:
        raise AttemptFailed("broken", "The provider answered with a stream though none was asked for.", status=answer.status)


async def _refused(answer: OpenAnswer, target: Target) -> AttemptFailed:
    try:
        body = await answer.beginning()
    except AttemptFailed:
        body = b""
    wait = retry_after(answer.headers)
    return read_failure(body, status=answer.status, retry_after=wait, secrets=target.secrets)


def _unreachable(error: Exception, timeouts: Timeouts) -> AttemptFailed:
    """The transport maps some of aiohttp's errors to misleading ones of httpx, so the original decides."""
    cause = error.__cause__ or error
    if isinstance(cause, aiohttp.ServerTimeoutError | TimeoutError):
        return AttemptFailed("timeout", f"No connection to the provider within {timeouts.connect:g} seconds.")
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return AttemptFailed("connect", "The provider's TLS certificate could not be verified.")
    if isinstance(cause, aiohttp.ClientConnectorError):
        return AttemptFailed("connect", "The provider cannot be reached.")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol) or isinstance(cause, aiohttp.InvalidURL):
        return AttemptFailed("connect", "The provider's base URL is not valid.")
    return AttemptFailed("broken", "The provider closed the connection without an answer.")


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


@functools.lru_cache(maxsize=1024)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


def _headers(target: Target, headers: dict[str, str], *, stream: bool) -> dict[str, str]:
    return {
        "content-type": _JSON,
        "accept": _EVENT_STREAM if stream else _JSON,
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
        **headers,
        **{name.lower(): value for name, value in target.headers.items()},
    }


def _request(method: str, url: str, *, headers: dict[str, str], body: bytes, connect: float) -> httpx.Request:
    """The body as a stream that has been read, its length and the host left to the transport: encoding a content, httpx
    looks at every header again, which takes as long as all the rest.
    """
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    timeouts = {"connect": connect, "pool": connect}
    request = httpx.Request(method, _url(url), headers=raw, stream=httpx.ByteStream(body), extensions={"timeout": timeouts})
    request.read()
    return request
