"""The listening sockets of the web processes, opened by their parent.

One process: one socket. Several: one socket each on the same port (SO_REUSEPORT), so that the kernel spreads connections evenly;
with one shared socket the first process to wake up takes nearly all of them.
"""

import errno
import os
import socket

from gateway_project.embedded.errors import StartError

ADDRESS = "127.0.0.1"
BACKLOG = 2048


def open_sockets(port: int, *, count: int) -> list[socket.socket]:
    """Raises StartError where the port is taken or not allowed."""
    try:
        # Without SO_REUSEPORT first: with it, a second Gatehouse of the same user would quietly share the port.
        first = socket.create_server((ADDRESS, port), backlog=BACKLOG)
        if count == 1:
            return [first]
        first.close()
        return [socket.create_server((ADDRESS, port), backlog=BACKLOG, reuse_port=True) for _ in range(count)]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"Port {port} is taken by another program: stop it, or choose another with PORT={port + 1}."
            ) from error
        raise StartError(f"Port {port} cannot be opened ({os.strerror(error.errno or 0)}): choose another with PORT.") from error
