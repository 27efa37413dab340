"""What is done to one key: edit, rotate, disable, enable, delete."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from guardrails.key_forms import EditKeyForm, RotateForm
from guardrails.pages import key_url
from guardrails.views import FORM_FIELDS, show_once
from orgs.answers import alone, go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.lookups import access_key_by_id
from orgs.models import ApiKey
from orgs.permissions import Permission
from orgs.services.keys import disable_key, edit_key, enable_key, end_old_text, revoke_key, rotate_key


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
@alone
def edit(request: OrgRequest, key_id: int) -> HttpResponse:
    """With `?part=attribution`: the fields that depend on the application chosen."""
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    part = request.GET.get("part") == "attribution"
    form = EditKeyForm(request.POST if request.method == "POST" else None, key=found, chosen=request.GET if part else None)
    if part:
        return render(request, "guardrails/partials/_attribution.html", {"form": form})
    if form.is_valid() and _edited(found, form, request):
        messages.success(request, f"{form.cleaned_data['name']} is changed from the next call on.")
        return go_to(request, key_url(found))
    context = {"form": form, "key": found, "form_action": request.path, "dialog_size": "modal-lg", "back_url": key_url(found)}
    return render(request, "guardrails/edit_key.html", context, status=422 if form.is_bound else 200)


def _edited(found: ApiKey, form: EditKeyForm, request: OrgRequest) -> bool:
    typed = form.cleaned_data
    try:
        edit_key(
            found,
            name=typed["name"],
            by=request.actor,
            application=typed["application"],
            environment=typed["environment"],
            features=typed["features"],
            expires_at=form.expires_at,
        )
    except Refused as refused:
        show_refusal(form, refused, fields=FORM_FIELDS)
        return False
    return True


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def rotate(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    form = RotateForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            return show_once(request, *rotate_key(found, by=request.actor, old_until=form.until), title="The key's new text")
        except Refused as refused:
            show_refusal(form, refused)
    context = {"form": form, "key": found, "form_action": request.path, "back_url": key_url(found)}
    return render(request, "guardrails/rotate_key.html", context, status=422 if form.is_bound else 200)


@require_POST
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def end_old(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    tried(request, lambda: end_old_text(found, by=request.actor), "The old text is refused from the next call on.")
    return redirect(key_url(found))


@require_POST
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def disable(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    tried(request, lambda: disable_key(found, by=request.actor), f"{found.name} is disabled: its next call is refused.")
    return redirect(key_url(found))


@require_POST
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def enable(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS)
    tried(request, lambda: enable_key(found, by=request.actor), f"{found.name} is enabled again.")
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
            return go_to(request, reverse("guardrails:keys", kwargs={"org": request.organization.slug}))
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
    try:
        revoke_key(found, by=request.actor, in_use=False)
    except Refused as refused:
        return refused.message
    return ""
