"""API keys: the list, one key with its limits, and what can be done with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from guardrails import example_call
from guardrails.forms import LimitsForm, NewKeyForm, show_refusal
from guardrails.pages import STATUS_WORDS, key_filters, key_rows, key_url, page_urls
from guardrails.selectors import key_page, own_limits, own_rules
from guardrails.services.key_limits import create_limited_key, set_key_limits
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.lookups import access_key_by_id
from orgs.models import ApiKey
from orgs.permissions import Permission
from orgs.services.keys import disable_key, enable_key, revoke_key

# Services name what the create form asks for in fewer fields.
FORM_FIELDS = {
    "expires_at": "expires_on",
    "daily_nano_usd": "budget",
    "monthly_nano_usd": "budget",
    "total_nano_usd": "budget",
    "member": "owner",
}


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def keys(request: OrgRequest) -> HttpResponse:
    filters = key_filters(request.GET, actor=request.actor)
    page = key_page(request.actor, **filters.wanted)
    context = {
        "rows": key_rows(page.keys),
        "may_create": request.actor.can_anywhere(Permission.MANAGE_OWN_KEYS),
        "filters": filters,
        "model": example_call.model() if not page.keys else "",
        "base_url": example_call.base_url(),
        **page_urls(request.GET, page),
    }
    return render(request, "guardrails/keys.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def new_key(request: OrgRequest) -> HttpResponse:
    form = NewKeyForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        try:
            return _show_once(request, *_created(form, request))
        except Refused as refused:
            show_refusal(form, refused, fields=FORM_FIELDS)
    context = {
        "form": form,
        "form_action": request.path,
        "dialog_size": "modal-lg",
        "back_url": reverse("guardrails:keys", kwargs={"org": request.organization.slug}),
    }
    return render(request, "guardrails/new_key.html", context, status=422 if form.is_bound else 200)


@require_safe
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def attribution(request: OrgRequest) -> HttpResponse:
    """The fields that depend on the group and the application chosen."""
    return render(request, "guardrails/partials/_attribution.html", {"form": NewKeyForm(actor=request.actor, chosen=request.GET)})


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def key(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.VIEW_USAGE)
    return _key_page(request, found, LimitsForm.showing(own_limits(found), own_rules(found)))


@require_POST
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def limits(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    form = LimitsForm(request.POST)
    if form.is_valid():
        try:
            set_key_limits(found, by=request.actor, rules=form.rules, **form.limits._asdict())
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, "The limits count from the next call on.")
            return redirect(key_url(found))
    return _key_page(request, found, form, status=422)


@require_POST
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def disable(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    try:
        disable_key(found, by=request.actor)
        messages.success(request, f"{found.name} is disabled: its next call is refused.")
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect(key_url(found))


@require_POST
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def enable(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    try:
        enable_key(found, by=request.actor)
        messages.success(request, f"{found.name} is enabled again.")
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect(key_url(found))


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def delete(request: OrgRequest, key_id: int) -> HttpResponse:
    """For ever, so the name is typed, and a key in use is disabled first."""
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    error = ""
    if request.method == "POST":
        error = _deleted(found, request)
        if not error:
            messages.success(request, f"{found.name} is deleted.")
            back = reverse("guardrails:keys", kwargs={"org": request.organization.slug})
            return HttpResponseClientRedirect(back) if request.htmx else redirect(back)
    context = {
        "form_action": request.path,
        "back_url": key_url(found),
        "confirm_title": "Delete this key?",
        "confirm_name": found.name,
        "confirm_losses": ["Programs that use it are refused for ever.", "Its calls stay in the ledger and the call log."],
        "confirm_verb": "Delete key",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


def _deleted(found: ApiKey, request: OrgRequest) -> str:
    """Empty, or why the key is not deleted."""
    if request.POST.get("confirm", "").strip() != found.name:
        return "The name is not the same."
    if found.status == "active":
        return "Disable the key first: that can be undone."
    try:
        revoke_key(found, by=request.actor)
    except Refused as refused:
        return refused.message
    return ""


def _created(form: NewKeyForm, request: OrgRequest) -> tuple[ApiKey, str]:
    typed = form.cleaned_data
    return create_limited_key(
        form.home,
        name=typed["name"],
        by=request.actor,
        limits=form.limits,
        member=form.member,
        application=typed["application"],
        environment=typed["environment"],
        features=typed["features"],
        expires_at=form.expires_at,
    )


def _show_once(request: OrgRequest, created: ApiKey, text: str) -> HttpResponse:
    """The secret lives in this answer only: never in a session, a URL or a message."""
    context = {
        "secret": text,
        "secret_name": created.name,
        "base_url": example_call.base_url(),
        "model": example_call.model(),
        "done_url": key_url(created),
        "dialog_static": True,
        "dialog_size": "modal-lg",
    }
    return render(request, "components/secret.html", context)


def _key_page(request: OrgRequest, found: ApiKey, form: LimitsForm, *, status: int = 200) -> HttpResponse:
    may_manage = request.actor.can_with_key(Permission.MANAGE_KEYS, found) and not found.revoked_at
    context: dict[str, Any] = {
        "key": found,
        "status": STATUS_WORDS[found.status],
        "path": found.group.path(),
        "form": form,
        "may_manage": may_manage,
    }
    return render(request, "guardrails/key.html", context, status=status)
