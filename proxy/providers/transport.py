"""The connections of a process to its providers: made, kept for the next call, and closed when nobody wants them.

Providers that the operator declares are connected to as they stand; addresses that tenants give lead to public ones only
(gateway_project/lib/outbound.py). No proxy is read from the environment. TLS certificates are verified.
"""

from __future__ import annotations

import asyncio
import errno
import math
import re
import socket
import ssl
from collections import deque
from functools import partial
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
_TIMEOUT = re.compile(r"timeout=(\d{1,9})")

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
        self._context = tls_context()
        self._open: dict[Connection, Origin] = {}
        # Of each origin the connections that nobody uses, and until when they may be used.
        self._idle: dict[Origin, deque[tuple[float, Connection]]] = {}
        self._resolved: dict[tuple[str, int], Resolved] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def kept(self, origin: Origin) -> Connection | None:
        """One that was used before."""
        idle = self._idle.get(origin)
        while idle:
            until, connection = idle.pop()
            if connection.is_open and self._loop.time() < until:
                return connection
            connection.close()
        return None

    async def connected(self, origin: Origin) -> Connection:
        """A new one. Raises OSError (ssl.SSLError where TLS fails), UnicodeError for what cannot be a host's name."""
        found = await self._addresses(origin.host, origin.port)
        try:
            plain = await aiohappyeyeballs.start_connection(
                found,
                happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
                loop=self._loop,
                socket_factory=outbound.checked_socket if origin.public_only else None,
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # room for the next one
                self._close_idle(before=math.inf)
            raise
        is_secure = origin.scheme == "https"
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop, ended=self._forget),
                sock=plain,
                ssl=self._context if is_secure else None,
                server_hostname=origin.host.rstrip(".") if is_secure else None,
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
        until = self._loop.time() + _seconds_to_keep(connection.headers)
        self._idle.setdefault(origin, deque()).append((until, connection))
        if self._sweep is None:
            self._sweep = self._loop.call_at(until, self._close_old)

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
        self._close_idle(before=self._loop.time())
        if self._idle:
            self._sweep = self._loop.call_at(min(idle[0][0] for idle in self._idle.values()), self._close_old)

    def _close_idle(self, *, before: float) -> None:
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0][0] <= before or not idle[0][1].is_open):
                idle.popleft()[1].close()
            if not idle:
                del self._idle[origin]

    async def _addresses(self, host: str, port: int) -> Found:
        """Asked once for all calls that want to know at the same time, and remembered for ten seconds.

        Each connection begins with another one of several, so that they share the load.
        """
        place, now = (host, port), self._loop.time()
        if place not in self._resolved or self._resolved[place].until < now:
            self._resolved = {place: known for place, known in self._resolved.items() if known.until >= now}
            task = self._loop.create_task(_found(host, port))
            task.add_done_callback(partial(self._forget_failure, place))
            self._resolved[place] = Resolved(task, now + RESOLVED_SECONDS)
        found = await asyncio.shield(self._resolved[place].found)
        in_turn = list(found)
        found.append(found.pop(0))
        return in_turn

    def _forget_failure(self, place: tuple[str, int], task: asyncio.Task[Found]) -> None:
        """It may be known again in a moment; and whoever asked may have gone before it failed."""
        if (task.cancelled() or task.exception()) and place in self._resolved and self._resolved[place].found is task:
            del self._resolved[place]


async def _found(host: str, port: int) -> Found:
    """At least one."""
    flags = socket.AI_ADDRCONFIG
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    if not found:
        raise OSError(f"{host} has no address")
    return list(found)


def _seconds_to_keep(headers: dict[str, str]) -> float:
    """A second less than the provider says, lest it closes as a request is on its way."""
    told = _TIMEOUT.search(headers.get("keep-alive", ""))
    return min(KEEPALIVE_SECONDS, float(told[1]) - 1) if told else KEEPALIVE_SECONDS


def tls_context() -> ssl.SSLContext:
    """Certificates and names are verified, by what certifi trusts."""
    return httpx.create_ssl_context(trust_env=False)


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
