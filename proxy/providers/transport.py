"""The one HTTP transport of a process: httpx types on aiohttp's connections.

Called without `httpx.AsyncClient`, which costs as much again as the request itself and would add what a
gateway must not do: follow redirects, keep cookies, read proxies from the environment.
"""

import asyncio
import ssl

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from gateway_project.lib import lifespan

MAX_CONNECTIONS = 2000
KEEPALIVE_SECONDS = 30

_shared: tuple[asyncio.AbstractEventLoop, AiohttpTransport] | None = None


def shared() -> AiohttpTransport:
    """The transport of the running loop, made on first use. TLS certificates are verified."""
    global _shared
    loop = asyncio.get_running_loop()
    if _shared is None or _shared[0] is not loop:
        context = httpx.create_ssl_context(trust_env=False)
        lifespan.on_shutdown(shutdown)
        _shared = loop, AiohttpTransport(verify=context, client=lambda: _session(context), trust_env=False)
    return _shared[1]


async def shutdown() -> None:
    """Closes every connection; a later call opens anew."""
    global _shared
    if _shared is not None and _shared[0] is asyncio.get_running_loop():
        transport = _shared[1]
        _shared = None
        await transport.aclose()


def _session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=context, limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_SECONDS)
    # Without the dummy jar a provider's cookie from one tenant's call would ride on another's.
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
