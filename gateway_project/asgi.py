"""The front door. Each path goes to one of five applications:

/v1/*                      the proxy, by the lean handler: no middleware, errors in the caller's protocol
/livez, /readyz, /metrics  probes, by the lean handler
/sandbox/*                 the sandbox provider
/o/*/playground/keys/*/call/  calls from the playground: the console lets them in, the lean handler serves them
everything else            the console, by Django with its full middleware
"""

import os
import re

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

import django
from django.conf import settings

from gateway_project.lib import lifespan
from gateway_project.lib.doored import BehindConsole
from gateway_project.lib.lean import LeanHandler, Receive, Scope, Send
from gateway_project.lib.threaded import ThreadedHandler
from proxy.answers import error_response, meant
from proxy.sandbox import app as sandbox

# Pages that one process works on at once: each holds a connection to PostgreSQL, and they share one processor anyway.
CONSOLE_THREADS = 8
PLAYGROUND = re.compile(r"/o/[^/]+/playground/keys/[0-9]+/call/")
PROBES = frozenset({"/livez", "/readyz", "/metrics"})

# First: the routes import the applications' models.
django.setup(set_prefix=False)

_console = ThreadedHandler(threads=CONSOLE_THREADS)
_proxy = LeanHandler("proxy.urls", error_response=error_response, max_body_bytes=settings.MAX_BODY_BYTES)
_playground = BehindConsole(
    _console,
    LeanHandler("proxy.playground_routes", error_response=error_response, max_body_bytes=settings.MAX_BODY_BYTES),
)
_probes = LeanHandler("gateway_project.probes", error_response=error_response, max_body_bytes=0)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan.serve(receive, send)
        return
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1000})
        return
    path: str = scope["path"]
    if path.startswith("/v1/") or path == "/v1":
        await _proxy(scope, receive, send)
    elif path in PROBES:
        await _probes(scope, receive, send)
    elif path.startswith("/sandbox/"):
        await sandbox.application(scope, receive, send)
    elif PLAYGROUND.fullmatch(path):
        await _playground(scope, receive, send)
    elif meant(path):  # a slip, which is told in the protocol of who made it
        await _proxy(scope, receive, send)
    else:
        await _console(scope, receive, send)
