"""SCIM 2.0 (RFC 7644): what a directory asks and tells. The organisation is that of the token."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.http import Http404, HttpResponse
from django.urls import reverse
from scim2_models import Context, ListResponse, PatchOp, ResourceType, ResponseParameters, Schema, SearchRequest

from gateway_project.lib.queries import id_in
from gateway_project.lib.rows import sole
from orgs.scim import directory, resources, serving
from orgs.scim.doors import DirectoryRequest, answer, directory_view
from orgs.scim.filters import GROUP_COLUMNS, USER_COLUMNS, condition
from orgs.scim_models import DirectoryGroup, DirectoryUser
from orgs.services.changes import changing

SERVED: tuple[type[Any], ...] = (resources.User, resources.Group)


@directory_view("GET", "POST")
def users(request: DirectoryRequest) -> HttpResponse:
    if request.method == "POST":
        wanted = resources.User.model_validate_json(request.body, scim_ctx=Context.RESOURCE_CREATION_REQUEST)
        row = directory.create_user(wanted, by=request.directory)
        return answer(_user(request, row), context=Context.RESOURCE_CREATION_RESPONSE, status=201)
    return _found_users(request, serving.of(SearchRequest, resources.User).model_validate(request.GET.dict()))


@directory_view("POST")
def search_users(request: DirectoryRequest) -> HttpResponse:
    """A list asked for by POST, so that what is searched for stands in no log of addresses (RFC 7644, 3.4.3)."""
    asked = serving.of(SearchRequest, resources.User).model_validate_json(request.body, scim_ctx=Context.SEARCH_REQUEST)
    return _found_users(request, asked)


@directory_view("GET", "PUT", "PATCH", "DELETE")
def user(request: DirectoryRequest, resource_id: str) -> HttpResponse:
    row = _one(directory.users(request.directory, Q(pk=id_in(resource_id))))
    if request.method == "DELETE":
        directory.remove_user(row, by=request.directory)
        return HttpResponse(status=204)
    if request.method != "GET":
        # A patch is of what is there: two at once must not bring back what one of them takes away.
        with changing(request.directory.organization):
            row = _one(directory.users(request.directory, Q(pk=row.pk)))
            directory.save_user(row, _wanted(request, resources.User, _user(request, row)), by=request.directory)
        row = _one(directory.users(request.directory, Q(pk=row.pk)))
    now = _user(request, row)
    asked = serving.of(ResponseParameters, resources.User).model_validate(request.GET.dict())
    return answer(now, response_parameters=asked)


@directory_view("GET", "POST")
def groups(request: DirectoryRequest) -> HttpResponse:
    if request.method == "POST":
        wanted = resources.Group.model_validate_json(request.body, scim_ctx=Context.RESOURCE_CREATION_REQUEST)
        row = directory.create_group(wanted, by=request.directory)
        return answer(_group(request, row), context=Context.RESOURCE_CREATION_RESPONSE, status=201)
    return _found_groups(request, serving.of(SearchRequest, resources.Group).model_validate(request.GET.dict()))


@directory_view("POST")
def search_groups(request: DirectoryRequest) -> HttpResponse:
    asked = serving.of(SearchRequest, resources.Group).model_validate_json(request.body, scim_ctx=Context.SEARCH_REQUEST)
    return _found_groups(request, asked)


@directory_view("GET", "PUT", "PATCH", "DELETE")
def group(request: DirectoryRequest, resource_id: str) -> HttpResponse:
    asked = serving.of(ResponseParameters, resources.Group).model_validate(request.GET.dict())
    row = _one(directory.groups(request.directory, Q(pk=id_in(resource_id))))
    if request.method == "DELETE":
        directory.remove_group(row, by=request.directory)
        return HttpResponse(status=204)
    if request.method != "GET":
        with changing(request.directory.organization):  # as above
            row = _one(directory.groups(request.directory, Q(pk=row.pk)))
            directory.save_group(row, _wanted(request, resources.Group, _group(request, row)), by=request.directory)
        row = _one(directory.groups(request.directory, Q(pk=row.pk)))
    now = _group(request, row)
    return answer(now, response_parameters=asked)


@directory_view("GET")
def config(request: DirectoryRequest) -> HttpResponse:
    return answer(resources.service_provider_config())


@directory_view("GET")
def resource_types(request: DirectoryRequest, name: str = "") -> HttpResponse:
    return _discovered([ResourceType.from_resource(model) for model in SERVED], name, model=ResourceType)


@directory_view("GET")
def schemas(request: DirectoryRequest, name: str = "") -> HttpResponse:
    return _discovered([model.to_schema() for model in SERVED], name, model=Schema)


@directory_view("GET", "POST", "PUT", "PATCH", "DELETE")
def absent(request: DirectoryRequest) -> HttpResponse:
    raise Http404("no such address")


def _found_users(request: DirectoryRequest, asked: SearchRequest[Any]) -> HttpResponse:
    rows = directory.users(request.directory, condition(asked.filter, USER_COLUMNS))
    page = serving.page_of(rows, asked, model=resources.User, show=lambda row: _user(request, row))
    return answer(page, response_parameters=asked)


def _found_groups(request: DirectoryRequest, asked: SearchRequest[Any]) -> HttpResponse:
    with_people = _wants_people(asked)
    rows = directory.groups(request.directory, condition(asked.filter, GROUP_COLUMNS), with_people=with_people)
    page = serving.page_of(rows, asked, model=resources.Group, show=lambda row: _group(request, row, with_people=with_people))
    return answer(page, response_parameters=asked)


def _discovered(found: list[Any], name: str, *, model: type[Any]) -> HttpResponse:
    """All, or the one of this id."""
    if name:
        one = next((one for one in found if one.id == name), None)
        if one is None:
            raise Http404("no such description")
        return answer(one)
    page = serving.of(ListResponse, model)(total_results=len(found), start_index=1, items_per_page=len(found), resources=found)
    return answer(page)


def _wanted(request: DirectoryRequest, model: type[Any], now: Any) -> Any:
    """The resource as a PUT or a PATCH wants it to be."""
    if request.method == "PUT":
        wanted = model.model_validate_json(request.body, scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST)
        wanted.replace(now)
        return wanted
    patch = serving.of(PatchOp, model).model_validate_json(request.body, scim_ctx=Context.RESOURCE_PATCH_REQUEST)
    patch.patch(now)
    return now


def _one(rows: Any) -> Any:
    row = sole(rows)
    if row is None:
        raise Http404("no such resource")
    return row


def _user(request: DirectoryRequest, row: DirectoryUser) -> resources.User:
    return serving.user_resource(row, base=_base(request))


def _group(request: DirectoryRequest, row: DirectoryGroup, *, with_people: bool = True) -> resources.Group:
    return serving.group_resource(row, base=_base(request), with_people=with_people)


def _wants_people(asked: SearchRequest[Any]) -> bool:
    """Entra asks for groups without their members, of which there may be thousands."""
    return "members" not in {str(path) for path in asked.excluded_attributes or []}


def _base(request: DirectoryRequest) -> str:
    return request.build_absolute_uri(reverse("scim:config")).rpartition("/")[0]
