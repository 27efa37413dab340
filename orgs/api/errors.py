"""Every refusal of the API in one shape: `{"error": {"code", "message", "param"}}`, as the proxy's side answers too.

400 invalid_json, invalid_cursor · 401 unauthenticated ·
403 permission_missing, scope_missing, csrf_failed, only_looking, organization_frozen, second_factor_required ·
404 not_found · 405 · 406 · 415 · 422 invalid (a field is wrong), refused (a rule forbids it) · 429 rate_limited · 503 unavailable
"""

from __future__ import annotations

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from redis.exceptions import RedisError
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from orgs.denials import record_denial
from orgs.errors import NotAllowed, OrganizationFrozen, Refused, SecondFactorMissing
from orgs.viewing import OnlyLooking

log = structlog.get_logger(__name__)


class ScopeMissing(exceptions.PermissionDenied):
    """The token was made for less than this."""


class InvalidCursor(exceptions.APIException):
    status_code = 400
    default_detail = "This cursor is none that a list gave."


CODES: dict[type[exceptions.APIException], str] = {
    exceptions.NotAuthenticated: "unauthenticated",
    exceptions.AuthenticationFailed: "unauthenticated",
    exceptions.ParseError: "invalid_json",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "rate_limited",
    InvalidCursor: "invalid_cursor",
}


class ErrorDetail(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


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
            return _error(422, "refused", exception.message, param=exception.field)
        case Http404() | exceptions.NotFound():
            return _error(404, "not_found", "There is no such thing, or none that you may see.")
        case exceptions.ValidationError():
            param, message = _first(exception.detail)
            return _error(422, "invalid", message, param=param)
        case PermissionDenied() | exceptions.PermissionDenied():
            return _forbidden(exception)
        case exceptions.APIException():
            return _of_framework(exception)
    return _unavailable(exception) if isinstance(exception, RedisError | OperationalError) else None


def _unavailable(exception: Exception) -> Response:
    log.warning("api_unavailable", error=type(exception).__name__)
    return _error(503, "unavailable", "Gatehouse cannot reach its database or Redis: try again in a moment.")


def _forbidden(exception: Exception) -> Response:
    if isinstance(exception, OrganizationFrozen):
        return _error(403, "organization_frozen", "The operator has stopped this organisation.")
    if isinstance(exception, SecondFactorMissing):
        return _error(403, "second_factor_required", "This organisation requires a second factor: set one up in your account.")
    return _error(403, "scope_missing" if isinstance(exception, ScopeMissing) else "csrf_failed", str(exception))


def _of_framework(exception: exceptions.APIException) -> Response:
    param = "cursor" if isinstance(exception, InvalidCursor) else None
    response = _error(exception.status_code, CODES.get(type(exception), "error"), str(exception.detail), param=param)
    if header := getattr(exception, "auth_header", None):
        response.headers["WWW-Authenticate"] = header
    if wait := getattr(exception, "wait", None):
        response.headers["Retry-After"] = str(int(wait) + 1)
    return response


def _error(status: int, code: str, message: str, *, param: str | None = None) -> Response:
    return Response({"error": {"code": code, "message": message, "param": param}}, status=status)


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
