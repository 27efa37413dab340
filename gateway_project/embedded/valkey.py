"""The embedded Valkey: unix socket only, append-only file on, nothing evicted."""

import os
import re
import socket
from pathlib import Path

from gateway_project.embedded import binaries, places
from gateway_project.embedded.child import Child
from gateway_project.embedded.places import Place

PING = b"*1\r\n$4\r\nPING\r\n"
OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    # Holds, queues and sessions are in here: an error is better than a silently forgotten one.
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
    "daemonize": "no",
}
# Advice for large servers at every start, and two lines at every stop.
NOISE = re.compile("Memory overcommit|Received SIGTERM|bye bye")
# Nothing of it is to last, and it rests between two tests: no look at its clients and keys ten times a second.
FAST_OPTIONS = {"appendfsync": "no", "hz": "1"}


class Valkey:
    def __init__(self, place: Place, *, fast: bool = False) -> None:
        self.place, self.fast = place, fast
        self.data = place.make("valkey")
        self.socket = place.sockets / "valkey.sock"
        self.program = places.reachable(binaries.valkey_folder(), program="valkey-server", place=place) / "valkey-server"

    def url(self, database: int = 0) -> str:
        return f"unix://{self.socket}?db={database}"

    def child(self) -> Child:
        options = {**OPTIONS, "unixsocket": str(self.socket), "dir": str(self.data), **(FAST_OPTIONS if self.fast else {})}
        return Child(
            "valkey",
            argv=[str(self.program), *(part for name, value in options.items() for part in (f"--{name}", value))],
            ready=lambda _: answers(self.socket),
            folder=self.data,
            variables={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            account=self.place.account,
            noise=NOISE,
        )


def answers(path: Path) -> bool:
    """Whether a server behind the socket has finished loading its data: until then it answers -LOADING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(PING)
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
