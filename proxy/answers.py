"""Errors on their way out of the proxy's routes: any exception → a response in the shape of the route called."""

import logging

from django.http import Http404, HttpResponse

from gateway_project.lib import ids, lean
from gateway_project.lib.logs import places
from proxy import errors
from proxy.protocols import chat_completions, messages
from proxy.protocols.base import CallerCodec

logger = logging.getLogger(__name__)

# What SDKs ask for when their base URL lacks the prefix. They must not meet the console's HTML.
PREFIX_FORGOTTEN = frozenset({"/chat/completions", "/models", "/key", "/responses", "/messages", "/embeddings"})

# Whose errors the routes below a path are told in; all others speak Chat Completions.
SHAPES: dict[str, CallerCodec] = {"/v1/messages": messages, "/messages": messages, "/v1/v1/messages": messages}


def codec_of(path: str) -> CallerCodec:
    return next((codec for root, codec in SHAPES.items() if path == root or path.startswith(f"{root}/")), chat_completions)


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
    if path in PREFIX_FORGOTTEN:
        return f" Did you mean /v1{path}? The base URL ends in /v1."
    return f" Did you mean {path[3:]}? The base URL does not end in /v1." if path.startswith("/v1/v1/messages") else ""
