"""Applications: the list, one application, and what can be done with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs import tree
from orgs.answers import alone, confirmed, go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.group_forms import ApplicationForm
from orgs.lookups import access_application_by_id
from orgs.models import Application
from orgs.permissions import Permission
from orgs.selectors import keys_visible_to
from orgs.services.applications import (
    archive_application,
    change_application,
    create_application,
    restore_application,
)

PAGE = ["GET", "HEAD", "POST"]
MOST_KEYS = 50


@require_safe
@org_view(*tree.SEES_APPLICATIONS)
def applications(request: OrgRequest) -> HttpResponse:
    archived = request.GET.get("archived") == "1"
    live = Count("api_keys", filter=Q(api_keys__revoked_at=None))
    found = tree.applications_seen(request.actor).annotate(live_keys=live)
    context = {
        "applications": found if archived else found.filter(archived_at=None),
        "archived": archived,
        "may_see_usage": request.actor.can_anywhere(Permission.VIEW_USAGE),
        "may_create": request.actor.can_anywhere(Permission.MANAGE_APPLICATIONS),
    }
    return render(request, "orgs/applications.html", context)


@require_safe
@org_view(*tree.SEES_APPLICATIONS)
def application(request: OrgRequest, application_id: int) -> HttpResponse:
    found = access_application_by_id(request.actor, application_id, *tree.SEES_APPLICATIONS)
    keys = keys_visible_to(request.actor).filter(application=found, revoked_at=None)
    is_open = not (found.archived_at or found.group.closed_by)
    context = {
        "application": found,
        "path": found.group.path(),
        "keys": keys[:MOST_KEYS],
        "may_see_usage": request.actor.can(Permission.VIEW_USAGE, found.group),
        "may_manage": request.actor.can(Permission.MANAGE_APPLICATIONS, found.group),
        "may_make_keys": request.actor.can(Permission.MANAGE_KEYS, found.group) and is_open,
    }
    return render(request, "orgs/application.html", context)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_APPLICATIONS)
def new(request: OrgRequest) -> HttpResponse:
    sent = request.POST if request.method == "POST" else None
    form = ApplicationForm(sent, actor=request.actor, group=request.GET.get("group", ""))
    if form.is_valid():
        typed = dict(form.cleaned_data)
        try:
            made = create_application(typed.pop("group"), by=request.actor, **typed)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"The application {made} was created. Keys can name it now.")
            return go_to(request, _url(request, made))
    return _form_page(request, form, title="New application", verb="Create application", back=_list_url(request))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_APPLICATIONS)
@alone
def edit(request: OrgRequest, application_id: int) -> HttpResponse:
    found = _managed(request, application_id)
    form = ApplicationForm(request.POST if request.method == "POST" else None, actor=request.actor, about=found)
    if form.is_valid():
        try:
            change_application(found, by=request.actor, **form.cleaned_data)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, "Saved. It counts from the next call on.")
            return go_to(request, _url(request, found))
    return _form_page(request, form, title=f"Edit {found}", verb="Save", back=_url(request, found))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_APPLICATIONS)
def archive(request: OrgRequest, application_id: int) -> HttpResponse:
    found, error = _managed(request, application_id), ""
    if request.method == "POST":
        error = confirmed(request, lambda: archive_application(found, by=request.actor), name=found.name)
        if not error:
            messages.success(request, f"{found} is archived. It can be brought back.")
            return go_to(request, _list_url(request))
    context = {
        "form_action": request.path,
        "back_url": _url(request, found),
        "confirm_title": f"Archive {found}?",
        "confirm_name": found.name,
        "confirm_losses": [
            "Every API key that names it stops on its next call.",
            "No key can be made for it. History and reports stay; restoring it makes the keys work again.",
        ],
        "confirm_verb": "Archive application",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


@require_POST
@org_view(Permission.MANAGE_APPLICATIONS)
def restore(request: OrgRequest, application_id: int) -> HttpResponse:
    found = _managed(request, application_id)
    tried(request, lambda: restore_application(found, by=request.actor), f"{found} is back: its keys work again.")
    return redirect(_url(request, found))


def _managed(request: OrgRequest, application_id: int) -> Application:
    """Raises Http404; NotAllowed where it is seen and not managed."""
    found = access_application_by_id(request.actor, application_id, *tree.SEES_APPLICATIONS)
    request.actor.require(Permission.MANAGE_APPLICATIONS, found.group)
    return found


def _form_page(request: OrgRequest, form: ApplicationForm, **words: Any) -> HttpResponse:
    context = {
        "form": form,
        "title": words["title"],
        "verb": words["verb"],
        "form_action": request.path,
        "back_url": words["back"],
    }
    return render(request, "orgs/application_form.html", context, status=422 if form.is_bound else 200)


def _url(request: OrgRequest, found: Application) -> str:
    return reverse("applications:application", kwargs={"org": request.organization.slug, "application_id": found.pk})


def _list_url(request: OrgRequest) -> str:
    return reverse("applications:list", kwargs={"org": request.organization.slug})
