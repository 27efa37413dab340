"""Below `/scim/v2/`. Without a slash at the end, as every directory asks.

The views are loaded by the first directory that comes: they and pydantic are a tenth of a web process's memory, and
few gateways have a directory.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from orgs.doors import Door, with_door

VIEWS = "orgs.scim.views"


def later(name: str) -> Callable[..., HttpResponse]:
    """The view of that name, for whoever has an organisation's token."""

    @csrf_exempt
    def view(request: HttpRequest, **found: str) -> HttpResponse:
        opened: Callable[..., HttpResponse] = getattr(import_module(VIEWS), name)
        return opened(request, **found)

    return with_door(view, Door("directory"))


app_name = "scim"
urlpatterns = [
    path("ServiceProviderConfig", later("config"), name="config"),
    path("ResourceTypes", later("resource_types"), name="resource_types"),
    path("ResourceTypes/<str:name>", later("resource_types"), name="resource_type"),
    path("Schemas", later("schemas"), name="schemas"),
    path("Schemas/<str:name>", later("schemas"), name="schema"),
    path("Users", later("users"), name="users"),
    path("Users/.search", later("search_users"), name="search_users"),
    path("Users/<str:resource_id>", later("user"), name="user"),
    path("Groups", later("groups"), name="groups"),
    path("Groups/.search", later("search_groups"), name="search_groups"),
    path("Groups/<str:resource_id>", later("group"), name="group"),
    re_path("", later("absent"), name="absent"),  # `path` would end at a line break
]
