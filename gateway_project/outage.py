"""The page of an error nobody expected; where PostgreSQL or Redis is away, one that says so."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.template import loader
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway_project.lib.redis import RedisUnavailable

RETRY_SECONDS = 10


def server_error(request: HttpRequest) -> HttpResponse:
    """`handler500`. The templates know nothing about the viewer: that would ask the database."""
    for error in _chain(sys.exc_info()[1]):
        if isinstance(error, OperationalError | InterfaceError):
            return _away("503.html") if _is_away(error) else _fault()
        if isinstance(error, RedisConnectionError | RedisTimeoutError | RedisUnavailable):
            return _away("redis_away.html")
    return _fault()


def _away(template: str) -> HttpResponse:
    text = loader.get_template(template).render({"seconds": RETRY_SECONDS})
    return HttpResponse(text, status=503, headers={"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"})


def _fault() -> HttpResponse:
    return HttpResponseServerError(loader.get_template("500.html").render())


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
