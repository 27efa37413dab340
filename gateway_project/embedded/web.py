"""One web process: uvicorn on a listening socket that its parent has opened, or on one of its own.

`python -m gateway_project.embedded.web --fd N [--gated]`. The socket belongs to the parent, so nobody can take the port
between the check and the start, and callers wait instead of being refused while a killed process is replaced.
`python -m gateway_project.embedded.web --listen 0.0.0.0:8000` is what a company runs, any number of them at one port: so the next
version can begin before this one ends.
With `--gated` the code is imported first; the application is made, and serving begins, when a line arrives on standard input.
(Not earlier: another process may still be collecting static files and making the tables of the database.)
"""

import argparse
import asyncio
import contextlib
import importlib
import os
import socket
import sys
from types import FrameType

import django
import uvicorn
from django.conf import settings

from gateway_project.embedded.heads import Connection
from gateway_project.lib import garbage, large_pages
from gateway_project.lib.beats import until_beat
from gateway_project.lib.ending import ending

APPLICATION = "gateway_project.asgi:application"
ROUTES = ("gateway_project.urls", "proxy.urls")  # with them comes nearly all code
# Before the time of an ending process is over: for callers to be told, in their own shape, that their calls were cut.
FAREWELL_SECONDS = 1
DATE_SECONDS = 1.0


class Server(uvicorn.Server):
    """Says that it ends, and once more when those that still run have to be cut: a second later uvicorn would cancel them."""

    _woken: asyncio.Event | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        large_pages.use()  # the application is made: nearly all that it will ever touch is there
        await super().startup(sockets)

    async def main_loop(self) -> None:
        """A turn each second, for the date that answers carry, and one when it is to end; uvicorn takes ten each second."""
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_beat(DATE_SECONDS, now=self._loop.time())):
                    await self._woken.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._woken is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending.ask()
        seconds = max(0, (self.config.timeout_graceful_shutdown or 0) - FAREWELL_SECONDS)
        cutting = asyncio.get_running_loop().call_later(seconds, ending.cut)
        await super().shutdown(sockets)
        cutting.cancel()


def serve(listening: socket.socket, *, gated: bool) -> None:
    garbage.search_seldom()  # calls leave little behind, too
    load_code()
    garbage.leave_what_is_loaded()
    if gated and not sys.stdin.readline():
        return  # the parent is gone
    Server(configured()).run(sockets=[listening])


def configured() -> uvicorn.Config:
    return uvicorn.Config(
        APPLICATION,
        loop="uvloop",
        http=Connection,
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whom to believe is the settings' to say (TRUSTED_PROXIES)
        log_config=None,  # the settings have configured logging
        log_level="warning",
        timeout_graceful_shutdown=settings.SHUTDOWN_SECONDS,
    )


def load_code() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    for module in ROUTES:
        importlib.import_module(module)


def socket_of_parent(descriptor: str) -> socket.socket:
    return socket.socket(fileno=int(descriptor))


def socket_at(place: str) -> socket.socket:
    """Of this and of all that are told the same: the kernel spreads connections over those that listen, as uvicorn does last."""
    address, _, port = place.rpartition(":")
    if not address:
        raise argparse.ArgumentTypeError(f"{place!r} is no ADDRESS:PORT")
    if ":" in address and not address.startswith("["):
        raise argparse.ArgumentTypeError(f"{place!r}: an IPv6 address stands in brackets, as in [{address}]:{port}")
    bound = socket.socket(socket.AF_INET6 if address.startswith("[") else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address.strip("[]"), int(port)))
    except (OSError, OverflowError, ValueError) as error:
        bound.close()
        raise argparse.ArgumentTypeError(f"{place!r} cannot be listened at: {error}") from error
    return bound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=socket_of_parent, dest="socket", help="file descriptor of the listening socket")
    where.add_argument("--listen", type=socket_at, dest="socket", metavar="ADDRESS:PORT", help="[::]:8000 for every address")
    parser.add_argument("--gated", action="store_true", help="wait for a line on standard input before serving")
    arguments = parser.parse_args()
    serve(arguments.socket, gated=arguments.gated)


if __name__ == "__main__":
    main()
