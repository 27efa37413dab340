"""One web process: uvicorn on a listening socket that its parent has opened.

`python -m gateway_project.embedded.web --fd N [--gated]`. The socket belongs to the parent, so nobody can take the port
between the check and the start, and callers wait instead of being refused while a killed process is replaced.
With `--gated` the code is imported first; the application is made, and serving begins, when a line arrives on standard input.
(Not earlier: whitenoise lists the static files while it is made, and another process may still be collecting them.)
"""

import argparse
import gc
import importlib
import os
import socket
import sys

import django
import uvicorn

from gateway_project.embedded.heads import Connection

APPLICATION = "gateway_project.asgi:application"
ROUTES = ("gateway_project.urls", "proxy.urls")  # with them comes nearly all code
SHUTDOWN_SECONDS = 5
GARBAGE_THRESHOLD = 20_000  # objects; Python's own 700 suits short scripts


def serve(listening: socket.socket, *, gated: bool) -> None:
    config = uvicorn.Config(
        APPLICATION,
        loop="uvloop",
        http=Connection,
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whom to believe is the settings' to say (TRUSTED_PROXIES)
        log_config=None,  # the settings have configured logging
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    gc.disable()  # loading code leaves next to no garbage, and looking for it took a fifth of the time
    load_code()
    # What is loaded by now stays: it need not be searched for garbage again and again, and calls leave little behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)
    gc.enable()
    if gated and not sys.stdin.readline():
        return  # the parent is gone
    uvicorn.Server(config).run(sockets=[listening])


def load_code() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    for module in ROUTES:
        importlib.import_module(module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the listening socket")
    parser.add_argument("--gated", action="store_true", help="wait for a line on standard input before serving")
    arguments = parser.parse_args()
    serve(socket.socket(fileno=arguments.fd), gated=arguments.gated)


if __name__ == "__main__":
    main()
