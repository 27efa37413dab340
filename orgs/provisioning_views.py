"""Security → Provisioning (SCIM): the token of an organisation's directory, and what the directory's groups give."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from orgs.answers import alone, go_to, show_refusal
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from orgs.provisioning_forms import LinkForm, TokenForm
from orgs.provisioning_pages import page_context, provisioning_of
from orgs.scim.lookups import access_directory_group_by_id
from orgs.services import provisioning as services

MANAGE = Permission.MANAGE_SETTINGS


@require_safe
@org_view(MANAGE)
def page(request: OrgRequest) -> HttpResponse:
    request.actor.require_everywhere(MANAGE)
    return render(request, "orgs/provisioning.html", page_context(request, request.actor))


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
@alone
def token(request: OrgRequest) -> HttpResponse:
    """A first one, or another in place of the one that works now."""
    request.actor.require_everywhere(MANAGE)
    row = provisioning_of(request.actor)
    form = TokenForm(request.POST if request.method == "POST" else None, actor=request.actor, row=row)
    if form.is_valid():
        try:
            text = services.issue_token(group=form.cleaned_data["group"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            shown = {"token": text, "back_url": _home(request), "dialog_static": True, **page_context(request, request.actor)}
            return render(request, "orgs/provisioning_token.html", shown)
    return _form(request, form, "orgs/provisioning_token_new.html", row=row)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
def revoke(request: OrgRequest) -> HttpResponse:
    request.actor.require_everywhere(MANAGE)
    row = provisioning_of(request.actor)
    if row is None or row.digest is None:
        return redirect(_home(request))
    if request.method == "POST":
        services.revoke_token(row, by=request.actor)
        return _done(request, "The token is revoked: the directory is answered no more.")
    context = {
        "form_action": request.path,
        "back_url": _home(request),
        "confirm_title": "Revoke the token?",
        "confirm_losses": [
            "The directory is refused from its next call on: nobody is added, changed or deactivated by it any more.",
            "Whom it brought in stays a member, and what its groups gave stays given.",
        ],
        "confirm_verb": "Revoke token",
    }
    return render(request, "components/confirm.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
@alone
def default_group(request: OrgRequest) -> HttpResponse:
    request.actor.require_everywhere(MANAGE)
    row = provisioning_of(request.actor)
    if row is None:
        return redirect(_home(request))
    form = TokenForm(request.POST if request.method == "POST" else None, actor=request.actor, row=row)
    if form.is_valid():
        try:
            services.choose_group(row, group=form.cleaned_data["group"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"Who comes from now on is a member of {form.cleaned_data['group']}.")
    return _form(request, form, "orgs/provisioning_group.html", row=row)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
@alone
def link(request: OrgRequest, directory_group_id: int) -> HttpResponse:
    """What being in a group of the directory gives."""
    request.actor.require_everywhere(MANAGE)
    row = access_directory_group_by_id(request.actor, directory_group_id)
    form = LinkForm(request.POST if request.method == "POST" else None, actor=request.actor, row=row)
    if form.is_valid():
        try:
            services.link_group(row, by=request.actor, **form.link)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"{row} is saved. It counts from the next call on.")
    return _form(request, form, "orgs/provisioning_link.html", row=row)


def _form(request: OrgRequest, form: TokenForm | LinkForm, template: str, **more: object) -> HttpResponse:
    context = {"form": form, "form_action": request.path, "back_url": _home(request), **more}
    return render(request, template, context, status=422 if form.is_bound else 200)


def _done(request: OrgRequest, words: str) -> HttpResponse:
    messages.success(request, words)
    return go_to(request, _home(request))


def _home(request: OrgRequest) -> str:
    return reverse("provisioning:page", kwargs={"org": request.organization.slug})
