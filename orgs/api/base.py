"""The base of every view of the API: who asks, for which organisation, within which scope; and what the schema says of it.

The rights are the console's: a view names the permissions of which one is needed somewhere, and loads every thing by
the functions of orgs/lookups.py or a selector that is cut to what its actor may see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway_project.lib.rows import sole
from orgs.actor import Actor
from orgs.api import errors
from orgs.api.authentication import ConsoleSession, PersonThrottle, TokenAuthentication
from orgs.api.bodies import FlatJson
from orgs.api.fields import Body, Query
from orgs.api.paging import Paging, page_of
from orgs.api.repeats import PARAMETER, repeatable
from orgs.doors import Door, with_door
from orgs.errors import NotAllowed, OrganizationFrozen, SecondFactorMissing
from orgs.lookups import access_organization_by_slug
from orgs.models import AccessToken, User
from orgs.origin import origin_of
from orgs.permissions import Permission
from orgs.second_factor import keeps_out
from orgs.selectors import within_ids
from orgs.tokens import allows
from orgs.viewing import Look, look, refuse_change

if TYPE_CHECKING:
    from rest_framework.views import AsView, GenericView

Row = TypeVar("Row", bound=Model)
Out = type[serializers.BaseSerializer[Any]]
Method = TypeVar("Method", bound=Callable[..., Response])
REFUSALS = (400, 401, 403, 404, 413, 415, 422, 429, 503)


class ApiView(APIView):
    authentication_classes = (TokenAuthentication, ConsoleSession)
    permission_classes = (IsAuthenticated,)
    parser_classes = (FlatJson,)
    renderer_classes = (JSONRenderer,)
    throttle_classes = (PersonThrottle,)
    # The scope that a token needs.
    resource: ClassVar[str]
    # What the address asks for after its "?", checked.
    asked: dict[str, Any]
    # The body, once it has been checked.
    sent: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def as_view(cls, **options: Any) -> AsView[GenericView]:
        return with_door(super().as_view(**options), Door("api", cls.needs()))

    @classmethod
    def needs(cls) -> tuple[Permission, ...]:
        return ()

    def get_exception_handler(self) -> Any:
        return errors.answer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.require_scope(self.resource, write=request.method not in SAFE_METHODS)
        refuse_change(request.method, looks=self.looks)
        self.enter(request, **kwargs)
        if method := getattr(self, (request.method or "").lower(), None):
            sent = {name: text for name, text in request.GET.items() if text}
            self.asked = checked(getattr(method, "query", Query), sent)

    @property
    def looks(self) -> Look | None:
        """A session that looks as somebody else does so here too; a token has no session."""
        return None if self.request.auth else look(cast(HttpRequest, self.request))

    def require_scope(self, resource: str, *, write: bool = True) -> None:
        """Of a token; a session may do all that its person may. Raises ScopeMissing."""
        token = self.request.auth
        if isinstance(token, AccessToken) and not allows(token.scopes, resource=resource, write=write):
            raise errors.ScopeMissing(f"This token lacks the scope {resource}:{'write' if write else 'read'}.")

    def enter(self, request: Request, **kwargs: Any) -> None:
        """Before anything of what was sent is looked at."""

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return super().finalize_response(request, response, *args, **kwargs)

    @property
    def person(self) -> User:
        return cast(User, self.request.user)

    def body(self, kind: type[Body], *, partial: bool = False) -> dict[str, Any]:
        """What was sent, checked. Raises ValidationError."""
        found = checked(kind, self.request.data, partial=partial)
        self.sent = dict(self.request.data)
        return found

    def narrowed(self, rows: QuerySet[Row], **lookups: str) -> QuerySet[Row]:
        """By what the address asks for: names of its parameters, and what each is a lookup of."""
        return rows.filter(**{lookup: self.asked[name] for name, lookup in lookups.items() if name in self.asked})

    def page(self, rows: QuerySet[Row], kind: Out, **paging: Any) -> Response:
        found, following = page_of(rows, limit=self.asked["limit"], cursor=self.asked.get("cursor", ""), **paging)
        return Response({"data": kind(found, many=True).data, "next_cursor": following})

    def param_of(self, field: str) -> str:
        """The field of a service's refusal as the body names it: "group" is sent as "group_id", "rpm" within "limits"."""
        inside = [f"{outer}.{field}" for outer, inner in self.sent.items() if isinstance(inner, dict) and field in inner]
        return next((name for name in (field, f"{field}_id") if name in self.sent), inside[0] if inside else field)


class OrgApiView(ApiView):
    """Below `/api/v1/organizations/<slug:org>/`. One of `reads`, or of `writes` where something changes, is needed somewhere."""

    reads: ClassVar[tuple[Permission, ...]] = (Permission.VIEW_OWN, Permission.VIEW_USAGE)
    writes: ClassVar[tuple[Permission, ...]] = ()
    # Whether `actor` is somebody else, as whom the asker looks around.
    is_looking = False

    @classmethod
    def needs(cls) -> tuple[Permission, ...]:
        return cls.reads

    def enter(self, request: Request, **kwargs: Any) -> None:
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
        looks = self.looks
        self.is_looking = looks is not None and looks.viewer.organization == actor.organization
        return looks.other if looks and self.is_looking else actor


def one_of(rows: QuerySet[Row], number: Any) -> Row:
    """Of rows that are cut to what the actor may see. Raises Http404."""
    found = sole(rows.filter(pk=number))
    if found is None:
        raise Http404("no such thing")
    return found


def below(rows: QuerySet[Row], group_id: int | None, *, field: str = "group") -> QuerySet[Row]:
    """Those at this group or below it; all where none is named. Whether the group is seen needs no check: the rows are."""
    return rows if group_id is None else rows.filter(within_ids([group_id], field=field))


def checked(kind: type[Body], sent: Any, *, partial: bool = False) -> dict[str, Any]:
    """Of a partial one every field may be missing, but none of what stands inside them. Raises ValidationError."""
    given = kind(data=sent)
    for field in given.fields.values() if partial else ():
        field.required, field.default = False, empty
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)


def operation(
    summary: str,
    *,
    gives: Out | None = None,
    many: bool = False,
    takes: Out | None = None,
    status: int = 200,
    query: type[Query] | None = None,
    once: str | None = None,
) -> Callable[[Method], Method]:
    """What the document says of a method, and what its address may ask for: `query`; of a list, a Paging.

    A POST can be repeated (orgs/api/repeats.py): `once` is the field of its answer that no repeated one holds.
    """
    answer: Any = _pages_of(gives) if many and gives else gives
    asked = query or (Paging if many else Query)
    parameters: list[Any] = [asked] if asked is not Query else []

    def declare(method: Method) -> Method:
        """Named after its class and method: "get_one_group"."""
        is_post = method.__name__ == "post"
        refusals = (*REFUSALS, 409) if is_post else REFUSALS
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", method.__qualname__.partition(".")[0]).lower()
        described = extend_schema(
            operation_id=f"{method.__name__}_{name}",
            summary=summary,
            request=takes,
            responses={status: answer, **dict.fromkeys(refusals, errors.Error)},
            parameters=[*parameters, PARAMETER] if is_post else parameters,
        )(cast(Method, repeatable(method, once=once)) if is_post else method)
        described.query = asked  # type: ignore[attr-defined]
        return described

    return declare


def _pages_of(kind: Out) -> Any:
    name = f"{kind.__name__}Page"
    fields = {"data": kind(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    return inline_serializer(name=name, fields=fields)
