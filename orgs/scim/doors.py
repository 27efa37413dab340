"""The door of `/scim/v2/`: a directory's token, and errors in the shape of RFC 7644, 3.12."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, cast

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers
from pydantic import ValidationError
from scim2_models import Context, Error, SCIMException

from orgs.errors import Refused
from orgs.origin import origin_of
from orgs.scim.acting import Directory, directory_of
from orgs.scim.resources import POLICY

P = ParamSpec("P")
CONTENT_TYPE = "application/scim+json"


class DirectoryRequest(HttpRequest):
    """What a view behind `directory_view` gets."""

    directory: Directory


def answer(resource: Any, *, context: Context = Context.RESOURCE_QUERY_RESPONSE, status: int = 200, **more: Any) -> HttpResponse:
    response = HttpResponse(resource.model_dump_json(scim_ctx=context, **more), status=status, content_type=CONTENT_TYPE)
    location = getattr(getattr(resource, "meta", None), "location", None)
    if status == 201 and location:
        response["Location"] = str(location)
    return response


def error(status: int, detail: str, *, scim_type: str | None = None) -> HttpResponse:
    return answer(Error(status=status, detail=detail, scim_type=scim_type), context=Context.DEFAULT, status=status)


def directory_view(
    *methods: str,
) -> Callable[[Callable[Concatenate[DirectoryRequest, P], HttpResponse]], Callable[..., HttpResponse]]:
    """For views below `/scim/v2/`, which answer to `methods` and to whoever has an organisation's token (orgs/scim/urls.py)."""

    def declare(view: Callable[Concatenate[DirectoryRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
        @functools.wraps(view)
        def opened(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            response = _enter(cast(DirectoryRequest, request), methods) or _judged(
                view, cast(DirectoryRequest, request), *args, **kwargs
            )
            add_never_cache_headers(response)
            return response

        return opened

    return declare


def _enter(request: DirectoryRequest, methods: tuple[str, ...]) -> HttpResponse | None:
    """Why not; None for whoever may pass."""
    directory = directory_of(request.META.get("HTTP_AUTHORIZATION", ""), origin=origin_of(request))
    if directory is None:
        refused = error(401, "Send the token of the page Provisioning (SCIM) as `Authorization: Bearer gh_scim_…`.")
        refused["WWW-Authenticate"] = 'Bearer realm="scim"'
        return refused
    if directory.organization.frozen_at:
        return error(403, "The operator of this gateway has frozen the organisation.")
    if request.method not in methods:
        return error(405, f"Only {', '.join(methods)}.")
    request.directory = directory
    return None


def _judged(
    view: Callable[Concatenate[DirectoryRequest, P], HttpResponse], request: DirectoryRequest, *args: P.args, **kwargs: P.kwargs
) -> HttpResponse:
    try:
        with POLICY:
            return view(request, *args, **kwargs)
    except ValidationError as invalid:
        first = Error.from_validation_errors(invalid)[0]
        return answer(first, context=Context.DEFAULT, status=first.status or 400)
    except SCIMException as wrong:
        return answer(wrong.to_error(), context=Context.DEFAULT, status=wrong.status)
    except Refused as refused:
        return error(400, refused.message, scim_type="invalidValue")
    except Http404:
        return error(404, "There is no such resource.")
