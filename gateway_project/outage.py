"""The page of an error nobody expected; where PostgreSQL is away, one that says so and comes again by itself."""

from __future__ import annotations

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.template import loader

RETRY_SECONDS = 10


def server_error(request: HttpRequest) -> HttpResponse:
    """`handler500`. The templates know nothing about the viewer: that would ask the database."""
    if _database_is_away(sys.exc_info()[1]):
        text = loader.get_template("503.html").render({"seconds": RETRY_SECONDS})
        return HttpResponse(text, status=503, headers={"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"})
    return HttpResponseServerError(loader.get_template("500.html").render())


def _database_is_away(error: BaseException | None) -> bool:
    """A server that cannot be reached, or ended the connection: not one that refused a statement."""
    while error is not None:
        if isinstance(error, OperationalError | InterfaceError):
            return getattr(error.__cause__, "sqlstate", None) in (None, *ENDED)
        error = error.__cause__ or error.__context__
    return False


# The server is shutting down, has crashed, or is starting (PostgreSQL's appendix A, class 57P and 08).
ENDED = ("57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006")
