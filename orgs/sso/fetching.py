"""Requests to addresses that a tenant gave: to public addresses only, no redirect followed, small answers, little time.

For the console's own threads: each request runs on an event loop of its own, which serves no call. The client is loaded
with the first of them: few processes ever make one, and it is 10 MB.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway_project.lib import outbound
from orgs.sso.errors import NotReached

if TYPE_CHECKING:
    import aiohttp

MOST_BYTES = 1_000_000
MOST_SECONDS = 10.0
CONNECT_SECONDS = 5.0


def fetch(url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """GET, or POST of a form. Raises NotReached, with the error code that an OAuth endpoint gave where it gave one."""
    status, body = asyncio.run(_asked(url, form, dict(headers or {})))
    if status != 200:
        code = _error_code(body)
        raise NotReached(f"{_host(url)} answered with HTTP {status}{f' ({code})' if code else ''}.")
    return body


def fetch_json(url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Raises NotReached."""
    return json_object(fetch(url, form=form, headers={"Accept": "application/json", **(headers or {})}), url)


def json_object(body: bytes, url: str) -> dict[str, Any]:
    """Raises NotReached."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotReached(f"{_host(url)} did not answer with JSON.") from error
    if not isinstance(found, dict):
        raise NotReached(f"{_host(url)} did not answer with a JSON object.")
    return found


async def _asked(url: str, form: Mapping[str, str] | None, headers: dict[str, str]) -> tuple[int, bytes]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=MOST_SECONDS, sock_connect=CONNECT_SECONDS)
    connector = aiohttp.TCPConnector(socket_factory=outbound.checked_socket)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            asked = session.request("GET" if form is None else "POST", url, data=form, headers=headers, allow_redirects=False)
            async with asked as response:
                return response.status, await _limited(response)
    except outbound.AddressRefused as error:
        raise NotReached(f"{_host(url)} is not at a public address. The operator can allow others.") from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        refused = error.__cause__ or error.__context__
        if isinstance(refused, outbound.AddressRefused) or isinstance(getattr(error, "os_error", None), outbound.AddressRefused):
            raise NotReached(f"{_host(url)} is not at a public address. The operator can allow others.") from error
        raise NotReached(f"{_host(url)} cannot be reached.") from error


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    """Chunk by chunk, so that a compressed answer cannot grow past the limit either."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MOST_BYTES:
            raise NotReached(f"{response.url.host} answered with more than {MOST_BYTES:,} bytes.")
    return bytes(body)


def _host(url: str) -> str:
    return url.split("://", 1)[-1].split("/", 1)[0][:120]


def _error_code(body: bytes) -> str:
    """OAuth's `error`, a short code by its specification (RFC 6749, section 5.2); "" for none."""
    try:
        code = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return code if isinstance(code, str) and code.isascii() and code.isprintable() and len(code) <= 60 else ""
