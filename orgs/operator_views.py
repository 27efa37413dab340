"""The operator's pages about people, and the brake on people and organisations (services/freezing.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs.answers import go_to, show_refusal, tried
from orgs.doors import SignedInRequest, staff_view
from orgs.errors import Refused
from orgs.operator_forms import FreezeForm
from orgs.operator_pages import Search, companies_of, organization_by_id, page_of, people, person_by_id
from orgs.origin import origin_of
from orgs.services import freezing
from orgs.services.freezing import Operator

PERSON_LOSSES = (
    "Every session of theirs ends, and they cannot sign in.",
    "Their API keys are refused from the next call on, in every organisation; open streams end.",
    "Rights, keys and history stay as they are for when you undo it.",
)
ORGANIZATION_LOSSES = (
    "Its pages and its API answer nobody.",
    "All its API keys are refused from the next call on; open streams end.",
    "Nothing is deleted: everything is as it was once you undo it.",
)


@require_safe
@staff_view
def list_people(request: SignedInRequest) -> HttpResponse:
    search = Search.of(request.GET)
    page = page_of(people(search), search)
    companies = companies_of(page.rows)
    rows = [(person, companies.get(person.pk, [])) for person in page.rows]
    context = {"rows": rows, "search": search, "newer_url": page.newer_url, "older_url": page.older_url, "in_platform": True}
    return render(request, "platform/people.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@staff_view
def freeze_person(request: SignedInRequest, user_id: int) -> HttpResponse:
    person = person_by_id(user_id)
    back = reverse("platform:people")

    def freeze(reason: str) -> None:
        freezing.freeze_person(person, reason=reason, by=_operator(request))

    return _freeze(request, freeze, name=str(person), losses=PERSON_LOSSES, back=back)


@require_POST
@staff_view
def unfreeze_person(request: SignedInRequest, user_id: int) -> HttpResponse:
    person = person_by_id(user_id)
    back = reverse("platform:people")
    return _thaw(request, partial(freezing.unfreeze_person, person, by=_operator(request)), name=str(person), back=back)


@require_http_methods(["GET", "HEAD", "POST"])
@staff_view
def freeze_organization(request: SignedInRequest, organization_id: int) -> HttpResponse:
    organization = organization_by_id(organization_id)
    back = reverse("platform:organizations")

    def freeze(reason: str) -> None:
        freezing.freeze_organization(organization, reason=reason, by=_operator(request))

    return _freeze(request, freeze, name=organization.name, losses=ORGANIZATION_LOSSES, back=back)


@require_POST
@staff_view
def unfreeze_organization(request: SignedInRequest, organization_id: int) -> HttpResponse:
    organization = organization_by_id(organization_id)
    back = reverse("platform:organizations")
    thaw = partial(freezing.unfreeze_organization, organization, by=_operator(request))
    return _thaw(request, thaw, name=organization.name, back=back)


def _operator(request: SignedInRequest) -> Operator:
    return Operator(request.user, origin_of(request))


def _freeze(
    request: SignedInRequest, freeze: Callable[[str], None], *, name: str, losses: tuple[str, ...], back: str
) -> HttpResponse:
    form = FreezeForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            freeze(form.cleaned_data["reason"])
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"{name} is frozen. It counts on the next call.")
            return go_to(request, back)
    context = {"form": form, "form_action": request.path, "back_url": back, "name": name, "losses": losses}
    return render(request, "platform/freeze.html", context, status=422 if form.is_bound else 200)


def _thaw(request: SignedInRequest, thaw: Callable[[], None], *, name: str, back: str) -> HttpResponse:
    tried(request, thaw, f"{name} is no longer frozen.")
    return redirect(back)
