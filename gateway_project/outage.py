"""The page of an error nobody expected; where PostgreSQL or Redis is away, one that says so."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseServerError, JsonResponse
from django.template import loader
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway_project.lib.redis import RedisUnavailable

RETRY_SECONDS = 10
AWAY = {"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"}
# What programs are told below /api/, in the shape of orgs/api/errors.py.
UNAVAILABLE = (503, "unavailable", "Gatehouse cannot reach its database or Redis: try again in a moment.")
INTERNAL = (500, "internal", "This is a fault of Gatehouse's own; its log says more.")


def server_error(request: HttpRequest) -> HttpResponse:
    """`handler500`. The templates know nothing about the viewer: that would ask the database."""
    away = _page_of(sys.exc_info()[1])
    if request.path.startswith("/api/"):
        return _told_programs(*(UNAVAILABLE if away else INTERNAL))
    if away is None:
        return HttpResponseServerError(loader.get_template("500.html").render())
    text = loader.get_template(away).render({"seconds": RETRY_SECONDS})
    return HttpResponse(text, status=503, headers=AWAY)


def _page_of(error: BaseException | None) -> str | None:
    """What to show where a server is away; None: the fault is ours."""
    for one in _chain(error):
        if isinstance(one, OperationalError | InterfaceError):
            return "503.html" if _is_away(one) else None
        if isinstance(one, RedisConnectionError | RedisTimeoutError | RedisUnavailable):
            return "redis_away.html"
    return None


def _told_programs(status: int, code: str, message: str) -> HttpResponse:
    error = {"error": {"code": code, "message": message, "param": None}}
    return JsonResponse(error, status=status, headers=AWAY if status == 503 else {"Cache-Control": "no-store"})


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_away(error: BaseException) -> bool:
    """A server that cannot be reached, or ended the connection: not one that refused a statement."""
    return getattr(error.__cause__, "sqlstate", None) in (None, *ENDED)


# The server is shutting down, has crashed, or is starting (PostgreSQL's appendix A, class 57P and 08).
ENDED = ("57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006")
