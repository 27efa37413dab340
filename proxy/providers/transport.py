"""The HTTP transports of a process: httpx types on aiohttp's connections. One for what the operator declares, one for
addresses that tenants give, which connects to public ones only (gateway_project/lib/outbound.py).

Called without `httpx.AsyncClient`, which costs as much again as the request itself and would add what a
gateway must not do: follow redirects, keep cookies, read proxies from the environment.
"""

import asyncio
import ssl
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from gateway_project.lib import lifespan, outbound

MAX_CONNECTIONS = 2000
KEEPALIVE_SECONDS = 30

# By event loop; and whether it connects to public addresses only.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bool, AiohttpTransport]] = WeakKeyDictionary()


def shared(*, public_only: bool = False) -> AiohttpTransport:
    """The transport of the running loop, made on first use. TLS certificates are verified."""
    own = _shared.setdefault(asyncio.get_running_loop(), {})
    if public_only not in own:
        context = httpx.create_ssl_context(trust_env=False)
        if not own:
            lifespan.on_shutdown(shutdown)
        own[public_only] = AiohttpTransport(verify=context, client=lambda: _session(context, public_only), trust_env=False)
    return own[public_only]


async def shutdown() -> None:
    """Closes every connection; a later call opens anew."""
    for transport in _shared.pop(asyncio.get_running_loop(), {}).values():
        await transport.aclose()


def _session(context: ssl.SSLContext, public_only: bool) -> aiohttp.ClientSession:
    connect = outbound.connector if public_only else aiohttp.TCPConnector
    connector = connect(ssl=context, limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_SECONDS)
    # Without the dummy jar a provider's cookie from one tenant's call would ride on another's.
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
