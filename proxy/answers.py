"""Errors on their way out of the proxy's routes: any exception → a response in the shape of the route called."""

import logging
from itertools import takewhile

from django.http import Http404, HttpResponse
from django.urls import Resolver404, resolve

from gateway_project.lib import ids, lean
from gateway_project.lib.logs import places
from proxy import errors
from proxy.protocols import chat_completions, messages
from proxy.protocols.base import CallerCodec

logger = logging.getLogger(__name__)


def meant(path: str) -> str:
    """The address that a path is a slip of: /v1 is missing or said twice, a slash is doubled or stands at the end.

    '' where it is none. Such callers must not meet the console's HTML.
    """
    address = "/v1/" + "/".join(_words(path))
    try:
        resolve(address, "proxy.urls")
    except Resolver404:
        return ""
    return "" if address == path else address


def codec_of(path: str) -> CallerCodec:
    """In whose shape the routes at and below a path tell errors: all but one in that of Chat Completions."""
    return messages if _words(path)[:1] == ["messages"] else chat_completions


def _words(path: str) -> list[str]:
    """Those of a path behind its /v1."""
    words = [word for word in path.split("/") if word]
    return words[_prefixes(path) :]


def _prefixes(path: str) -> int:
    return sum(1 for _ in takewhile("v1".__eq__, filter(None, path.split("/"))))


def error_response(path: str, exception: Exception, *, request_id: str | None = None) -> HttpResponse:
    """`exception` in the shape of the route at `path`. What nobody foresaw is logged and answered 500 without its text.

    An exception may carry the call's own id as `request_id`; else the argument counts, else a fresh id.
    """
    request_id = getattr(exception, "request_id", None) or request_id or f"req_{ids.new_call_id().hex}"
    error = _proxy_error(path, exception)
    if isinstance(error, errors.InternalError):
        # Not the exception's own text: it may quote what a caller wrote.
        logger.error(
            "Unforeseen failure of %s, request %s: %s at %s", path, request_id, type(exception).__name__, places(exception)
        )
    body = codec_of(path).render_error(error, request_id=request_id)
    return HttpResponse(body, status=error.status, headers=errors.headers(error, request_id=request_id))


def _proxy_error(path: str, exception: Exception) -> errors.ProxyError:
    match exception:
        case errors.ProxyError():
            return exception
        case errors.AttemptFailed():
            return errors.as_proxy_error(exception)
        case lean.RouteNotFound() | Http404():
            return errors.UnknownUrl(f"There is nothing at {path}.{_hint(path)}")
        case lean.MethodNotAllowed():
            return errors.MethodNotAllowed(f"{path} does not take {exception.method}.", allow=exception.allow)
        case lean.ServerStops():
            return errors.GatewayStopping()
        case lean.BodyTooLarge():
            return errors.RequestTooLarge(f"The request body is larger than {exception.limit} bytes.")
        case lean.BadRequestLine():
            return errors.BadRequest("The request's path, query or headers cannot be decoded.")
        case _:
            return errors.InternalError()


def _hint(path: str) -> str:
    """OpenAI's SDKs want a base URL that ends in /v1, Anthropic's one that does not."""
    address = meant(path)
    if not address:
        return ""
    why = {0: " The base URL ends in /v1.", 1: ""}.get(_prefixes(path))
    if why is None:
        why = " The base URL does not end in /v1." if codec_of(path) is messages else " The base URL ends in one /v1."
    return f" Did you mean {address}?{why}"
