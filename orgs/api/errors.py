"""Every refusal of the API in one shape: `{"error": {"code", "message", "param"}}`, as the proxy's side answers too.

400 invalid_json, invalid_cursor · 401 unauthenticated · 403 everything about rights · 404 not_found · 405 · 406 ·
409 idempotency_conflict, request_in_progress (orgs/api/repeats.py) · 413 · 415 ·
422 invalid (a field is wrong), refused (a rule forbids it) · 429 rate_limited · 500 internal · 503 unavailable
"""

from __future__ import annotations

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404
from redis.exceptions import RedisError
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from gateway_project.lib.redis import RedisUnavailable
from orgs.denials import record_denial
from orgs.errors import NotAllowed, OrganizationFrozen, Refused, SecondFactorMissing
from orgs.viewing import OnlyLooking

RETRY_SECONDS = 10

log = structlog.get_logger(__name__)


class ScopeMissing(exceptions.PermissionDenied):
    """The token was made for less than this."""


class OrganizationsClosed(exceptions.PermissionDenied):
    """Only the operator of this installation makes organisations."""


class InvalidCursor(exceptions.APIException):
    status_code = 400
    default_detail = "This cursor is none that a list gave."


class IdempotencyConflict(exceptions.APIException):
    status_code = 409
    default_detail = "Another request came with this idempotency key: take a new one for a new request."


class RequestInProgress(exceptions.APIException):
    status_code = 409
    default_detail = "The request with this idempotency key has not ended yet: send it again in a moment."
    wait = 0  # Retry-After: 1


CODES: dict[type[exceptions.APIException], str] = {
    exceptions.NotAuthenticated: "unauthenticated",
    exceptions.AuthenticationFailed: "unauthenticated",
    exceptions.ParseError: "invalid_json",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "rate_limited",
    InvalidCursor: "invalid_cursor",
    IdempotencyConflict: "idempotency_conflict",
    RequestInProgress: "request_in_progress",
}


EVERY_CODE = [
    ("unauthenticated", "no access token that works, no session"),
    ("scope_missing", "the token was made for less"),
    ("permission_missing", "its person lacks a right there"),
    ("csrf_failed", "a session sends the token of its pages, too"),
    ("only_looking", "a session that looks as somebody else changes nothing"),
    ("second_factor_required", "the organisation opens to people with a second factor only"),
    ("organization_frozen", "the operator has stopped the organisation"),
    ("organizations_closed", "only the operator makes organisations"),
    ("not_found", "not there, or not yours to see"),
    ("method_not_allowed", "nothing does that there"),
    ("not_acceptable", "answers are JSON"),
    ("unsupported_media_type", "bodies are JSON"),
    ("idempotency_conflict", "the `Idempotency-Key` came with another request"),
    ("request_in_progress", "the request of this `Idempotency-Key` has not ended: try again in a moment"),
    ("body_too_large", "no change needs so much"),
    ("invalid_json", "the body is none"),
    ("invalid_cursor", "no list gave it"),
    ("invalid", "`param` is wrong"),
    ("refused", "a rule forbids it"),
    ("rate_limited", "wait as long as `Retry-After` says"),
    ("unavailable", "try again in a moment: nothing was changed"),
    ("internal", "a fault of Gatehouse's own"),
    ("error", "anything else"),
]


class ErrorDetail(serializers.Serializer[Any]):
    code = serializers.ChoiceField(choices=EVERY_CODE, help_text="For programs:")
    message = serializers.CharField(help_text="For people.")
    param = serializers.CharField(allow_null=True, help_text="What is wrong in the body or the query: `name`, `limits.0.value`.")


class Error(serializers.Serializer[Any]):
    error = ErrorDetail()


def answer(exception: Exception, context: dict[str, Any]) -> Response | None:
    """The exception handler of the API's views; None: it is a fault of ours."""
    match exception:
        case NotAllowed():
            _record(exception, context)
            return _error(403, "permission_missing", f"You lack the permission “{exception.permission.label}” there.")
        case OnlyLooking():
            return _error(403, "only_looking", str(exception))
        case Refused():
            return _error(422, "refused", exception.message, param=_param(exception, context))
        case Http404() | exceptions.NotFound():
            return _error(404, "not_found", "There is no such thing, or none that you may see.")
        case exceptions.ValidationError():
            param, message = _first(exception.detail)
            return _error(422, "invalid", message, param=param)
        case RequestDataTooBig():
            return _error(413, "body_too_large", "This body is larger than any change needs.")
        case PermissionDenied() | exceptions.PermissionDenied():
            return _forbidden(exception)
        case exceptions.APIException():
            return _of_framework(exception)
    return _unavailable(exception) if isinstance(exception, RedisError | RedisUnavailable | OperationalError) else None


def _unavailable(exception: Exception) -> Response:
    log.warning("api_unavailable", error=type(exception).__name__)
    response = _error(503, "unavailable", "Gatehouse cannot reach its database or Redis: try again in a moment.")
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def _forbidden(exception: Exception) -> Response:
    if isinstance(exception, OrganizationFrozen):
        return _error(403, "organization_frozen", "The operator has stopped this organisation.")
    if isinstance(exception, SecondFactorMissing):
        return _error(403, "second_factor_required", "This organisation requires a second factor: set one up in your account.")
    if isinstance(exception, OrganizationsClosed):
        return _error(403, "organizations_closed", "On this installation the operator makes organisations.")
    return _error(403, "scope_missing" if isinstance(exception, ScopeMissing) else "csrf_failed", str(exception))


def _of_framework(exception: exceptions.APIException) -> Response:
    param = "cursor" if isinstance(exception, InvalidCursor) else None
    response = _error(exception.status_code, _code(exception), str(exception.detail), param=param)
    if header := getattr(exception, "auth_header", None):
        response.headers["WWW-Authenticate"] = header
    if (wait := getattr(exception, "wait", None)) is not None:
        response.headers["Retry-After"] = str(int(wait) + 1)
    return response


def _code(exception: exceptions.APIException) -> str:
    return next((CODES[kind] for kind in type(exception).__mro__ if kind in CODES), "error")


def _error(status: int, code: str, message: str, *, param: str | None = None) -> Response:
    return Response({"error": {"code": code, "message": message, "param": param}}, status=status)


def _param(refused: Refused, context: dict[str, Any]) -> str | None:
    """As what was sent calls it."""
    view = context.get("view")
    return view.param_of(refused.field) if refused.field and view is not None else refused.field


def _first(detail: Any, path: tuple[str, ...] = ()) -> tuple[str | None, str]:
    """The first field that is wrong, as `limits.0.value`, and what is wrong with it."""
    if isinstance(detail, dict) and detail:
        name, inner = next(iter(detail.items()))
        return _first(inner, path if name == "non_field_errors" else (*path, str(name)))
    if isinstance(detail, list) and detail:
        place = next((index for index, one in enumerate(detail) if one), 0)
        return _first(detail[place], path if isinstance(detail[place], str) else (*path, str(place)))
    return ".".join(path) or None, str(detail)


def _record(missing: NotAllowed, context: dict[str, Any]) -> None:
    """Whoever looks as somebody else has been denied nothing, nor has the other asked."""
    view, request = context.get("view"), context.get("request")
    actor = getattr(view, "actor", None)
    if actor is not None and request is not None and not getattr(view, "is_looking", False):
        record_denial(missing, by=actor, method=request.method or "", path=request.path)
