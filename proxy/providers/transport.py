"""The connections of a process to its providers: made, kept for the next call, and closed when nobody wants them.

Providers that the operator declares are connected to as they stand; addresses that tenants give lead to public ones only
(gateway_project/lib/outbound.py). No proxy is read from the environment. TLS certificates are verified.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any, NamedTuple

import aiohappyeyeballs
import httpx

from gateway_project.lib import lifespan, outbound
from proxy.providers.connection import Connection

KEEPALIVE_SECONDS = 30.0
RESOLVED_SECONDS = 10.0
# Before the next address of the same name is tried beside the first (RFC 8305, section 5).
NEXT_ADDRESS_SECONDS = 0.25
# Of the event loop, until the transports have told their connections that they are closed.
TURNS_TO_CLOSE = 20

Found = list[tuple[Any, ...]]


class Origin(NamedTuple):
    """Where a connection leads. `public_only`: a tenant gave it."""

    scheme: str
    host: str
    port: int
    public_only: bool = False


class Resolved(NamedTuple):
    found: asyncio.Task[Found]
    until: float


class Pool:
    """Of one event loop. What lies idle longest is used last, so that a quiet hour leaves few connections."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = httpx.create_ssl_context(trust_env=False)
        self._open: dict[Connection, Origin] = {}
        # Of each origin the connections that nobody uses, and since when.
        self._idle: dict[Origin, deque[tuple[float, Connection]]] = {}
        self._resolved: dict[tuple[str, int], Resolved] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def kept(self, origin: Origin) -> Connection | None:
        """One that was used before."""
        idle = self._idle.get(origin)
        while idle:
            since, connection = idle.pop()
            if connection.is_open and self._loop.time() - since < KEEPALIVE_SECONDS:
                return connection
            connection.close()
        return None

    async def connected(self, origin: Origin) -> Connection:
        """A new one. Raises OSError (ssl.SSLError where TLS fails), UnicodeError for what cannot be a host's name."""
        found = await self._addresses(origin.host, origin.port)
        plain = await aiohappyeyeballs.start_connection(
            found,
            happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
            loop=self._loop,
            socket_factory=outbound.checked_socket if origin.public_only else None,
        )
        is_secure = origin.scheme == "https"
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop, ended=self._forget),
                sock=plain,
                ssl=self._context if is_secure else None,
                server_hostname=origin.host if is_secure else None,
            )
        except BaseException:
            plain.close()
            raise
        if connection.is_open:
            self._open[connection] = origin
        return connection

    def give_back(self, connection: Connection) -> None:
        """To be used again, if it can be; else it is closed."""
        origin = self._open.get(connection)
        if origin is None or not connection.can_be_used_again:
            connection.close()
            return
        self._idle.setdefault(origin, deque()).append((self._loop.time(), connection))
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEPALIVE_SECONDS, self._close_old)

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.close()
        for _ in range(TURNS_TO_CLOSE):
            if self._open:  # each tells that it has gone
                await asyncio.sleep(0)

    def _forget(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def _close_old(self) -> None:
        self._sweep = None
        before = self._loop.time() - KEEPALIVE_SECONDS
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0][0] <= before or not idle[0][1].is_open):
                idle.popleft()[1].close()
            if not idle:
                del self._idle[origin]
        if self._idle:
            oldest = min(idle[0][0] for idle in self._idle.values())
            self._sweep = self._loop.call_at(oldest + KEEPALIVE_SECONDS, self._close_old)

    async def _addresses(self, host: str, port: int) -> Found:
        """Asked once for all calls that want to know at the same time, and remembered for ten seconds."""
        now = self._loop.time()
        if (host, port) not in self._resolved or self._resolved[host, port].until < now:
            self._resolved = {place: known for place, known in self._resolved.items() if known.until >= now}
            self._resolved[host, port] = Resolved(self._loop.create_task(_found(host, port)), now + RESOLVED_SECONDS)
        try:
            return await asyncio.shield(self._resolved[host, port].found)
        except OSError:
            self._resolved.pop((host, port), None)  # it may be known again in a moment
            raise


async def _found(host: str, port: int) -> Found:
    flags = socket.AI_ADDRCONFIG
    return list(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


# By event loop.
_shared: dict[asyncio.AbstractEventLoop, Pool] = {}


def shared() -> Pool:
    """The pool of the running loop, made on first use."""
    loop = asyncio.get_running_loop()
    if (pool := _shared.get(loop)) is None:
        lifespan.on_shutdown(shutdown)
        pool = _shared[loop] = Pool()
    return pool


async def shutdown() -> None:
    """Closes every connection; a later call opens anew."""
    if (pool := _shared.pop(asyncio.get_running_loop(), None)) is not None:
        await pool.close()
