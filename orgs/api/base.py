"""The base of every view of the API: who asks, for which organisation, within which scope; and what the schema says of it.

The rights are the console's: a view names the permissions of which one is needed somewhere, and loads every thing by
the functions of orgs/lookups.py or a selector that is cut to what its actor may see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar, cast

from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from orgs.actor import Actor
from orgs.api import errors
from orgs.api.authentication import ConsoleSession, PersonThrottle, TokenAuthentication
from orgs.api.paging import MOST, page_of
from orgs.doors import Door
from orgs.errors import NotAllowed, OrganizationFrozen, SecondFactorMissing
from orgs.lookups import access_organization_by_slug
from orgs.models import AccessToken, User
from orgs.origin import origin_of
from orgs.permissions import Permission
from orgs.second_factor import keeps_out
from orgs.tokens import allows
from orgs.viewing import refuse_change, viewed

Row = TypeVar("Row", bound=Model)
Out = type[serializers.BaseSerializer[Any]]
Handler = TypeVar("Handler", bound=Callable[..., Response])
REFUSALS = (400, 401, 403, 404, 415, 422, 429, 503)
PAGING = [
    OpenApiParameter("limit", int, description=f"How many, 1 to {MOST}; 50 where none is given."),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


class ApiView(APIView):
    authentication_classes = (TokenAuthentication, ConsoleSession)
    permission_classes = (IsAuthenticated,)
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)
    throttle_classes = (PersonThrottle,)
    # The scope that a token needs.
    resource: ClassVar[str]

    @classmethod
    def as_view(cls, **options: Any) -> Callable[..., HttpResponseBase]:  # type: ignore[override]
        view = super().as_view(**options)
        view.door = Door("api", cls.needs())  # type: ignore[attr-defined]
        return view

    @classmethod
    def needs(cls) -> tuple[Permission, ...]:
        return ()

    def get_exception_handler(self) -> Any:
        return errors.answer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.require_scope(self.resource, write=request.method not in SAFE_METHODS)

    def require_scope(self, resource: str, *, write: bool = True) -> None:
        """Of a token; a session may do all that its person may. Raises ScopeMissing."""
        token = self.request.auth
        if isinstance(token, AccessToken) and not allows(token.scopes, resource=resource, write=write):
            raise errors.ScopeMissing(f"This token lacks the scope {resource}:{'write' if write else 'read'}.")

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return super().finalize_response(request, response, *args, **kwargs)

    @property
    def person(self) -> User:
        return cast(User, self.request.user)

    def body(self, kind: Out, *, partial: bool = False) -> dict[str, Any]:
        """What was sent, checked. Raises ValidationError."""
        given = kind(data=self.request.data, partial=partial)
        given.is_valid(raise_exception=True)
        return dict(given.validated_data)

    def page(self, rows: QuerySet[Row], kind: Out, **paging: Any) -> Response:
        found, following = page_of(rows, self.request, **paging)
        return Response({"data": kind(found, many=True).data, "next_cursor": following})


class OrgApiView(ApiView):
    """Below `/api/v1/organizations/<slug:org>/`. One of `reads`, or of `writes` where something changes, is needed somewhere."""

    reads: ClassVar[tuple[Permission, ...]] = (Permission.VIEW_OWN, Permission.VIEW_USAGE)
    writes: ClassVar[tuple[Permission, ...]] = ()
    # Whether `actor` is somebody else, as whom the asker looks around.
    is_looking = False

    @classmethod
    def needs(cls) -> tuple[Permission, ...]:
        return cls.reads

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.actor = self._entered(request, kwargs["org"])
        wanted = self.reads if request.method in SAFE_METHODS else self.writes
        if wanted and not any(self.actor.can_anywhere(permission) for permission in wanted):
            raise NotAllowed(wanted[0])

    def _entered(self, request: Request, slug: str) -> Actor:
        actor = access_organization_by_slug(self.person, slug, origin=origin_of(cast(HttpRequest, request)))
        if keeps_out(actor.organization, self.person):
            raise SecondFactorMissing
        if actor.organization.frozen_at:
            raise OrganizationFrozen
        # A session that looks as somebody else does so here too; a token has no session.
        looking_as = None if request.auth else viewed(request.session, by=actor)
        self.is_looking = looking_as is not None
        refuse_change(request.method, viewer=actor if looking_as else None)
        return looking_as or actor


def one_of(rows: QuerySet[Row], number: Any) -> Row:
    """Of rows that are cut to what the actor may see. Raises Http404."""
    found = rows.filter(pk=number).first()
    if found is None:
        raise Http404("no such thing")
    return found


def operation(
    summary: str,
    *,
    gives: Out | None = None,
    many: bool = False,
    takes: Out | None = None,
    status: int = 200,
    query: Sequence[OpenApiParameter] = (),
) -> Callable[[Handler], Handler]:
    """What the document says of a method."""
    answer: Any = _pages_of(gives) if many and gives else gives
    responses: dict[int, Any] = {status: answer, **dict.fromkeys(REFUSALS, errors.Error)}
    parameters = [*query, *(PAGING if many else [])]

    def declare(handler: Handler) -> Handler:
        """Named after its class and method: "get_one_group"."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", handler.__qualname__.partition(".")[0]).lower()
        described = extend_schema(
            operation_id=f"{handler.__name__}_{name}", summary=summary, request=takes, responses=responses, parameters=parameters
        )
        return described(handler)

    return declare


def _pages_of(kind: Out) -> Any:
    name = f"{kind.__name__}Page"
    fields = {"data": kind(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    return inline_serializer(name=name, fields=fields)
