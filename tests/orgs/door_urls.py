"""Pages behind every kind of door, for the tests of the doors themselves, in front of the project's own."""

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import include, path
from django.utils import timezone
from django.views.decorators.http import require_safe

from gateway_project import urls as project
from orgs.doors import OrgRequest, SignedInRequest, org_view, public_view, signed_in_view
from orgs.lookups import access_group_by_id
from orgs.permissions import Permission


@require_safe
@org_view(Permission.VIEW_OWN)
def overview(request: OrgRequest) -> HttpResponse:
    return HttpResponse(f"{request.organization.slug} {request.actor.role_label} {request.actor.ip}")


@org_view(Permission.MANAGE_GUARDRAILS)
def guardrails(request: OrgRequest) -> HttpResponse:
    return HttpResponse("guardrails")


@org_view(Permission.VIEW_BILLING, Permission.MANAGE_KEYS)
def either(request: OrgRequest) -> HttpResponse:
    return HttpResponse("either")


@org_view(Permission.MANAGE_KEYS)
def group(request: OrgRequest, group_id: int) -> HttpResponse:
    return HttpResponse(access_group_by_id(request.actor, group_id, Permission.MANAGE_KEYS).name)


@org_view(Permission.VIEW_OWN)
def strict(request: OrgRequest) -> HttpResponse:
    """The check deep inside a service, not at the door."""
    request.actor.require(Permission.MANAGE_SETTINGS, request.organization.root)
    return HttpResponse("strict")


@org_view(Permission.VIEW_OWN)
def clock(request: OrgRequest) -> HttpResponse:
    return HttpResponse(timezone.get_current_timezone_name())


@org_view(Permission.VIEW_OWN)
def chrome(request: OrgRequest) -> HttpResponse:
    return render(request, "console.html")


@signed_in_view
def profile(request: SignedInRequest) -> HttpResponse:
    return render(request, "console.html")


@public_view
def public(request: OrgRequest) -> HttpResponse:
    return HttpResponse("public")


def undeclared(request: OrgRequest) -> HttpResponse:
    return HttpResponse("nobody said who may see this")


pages = (
    [
        path("", overview, name="overview"),
        path("guardrails/", guardrails, name="guardrails"),
        path("either/", either, name="either"),
        path("groups/<int:group_id>/", group, name="group"),
        path("strict/", strict, name="strict"),
        path("clock/", clock, name="clock"),
        path("chrome/", chrome, name="chrome"),
    ],
    "doors",
)
urlpatterns = [
    path("o/<slug:org>/doors/", include(pages)),
    path("profile/", profile),
    path("public/", public),
    path("undeclared/", undeclared),
    *project.urlpatterns,
]
