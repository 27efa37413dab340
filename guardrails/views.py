"""API keys: the list, a new one, and the pages of one key."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from guardrails import example_call, stopping
from guardrails.forms import LimitsForm, NewKeyForm
from guardrails.key_lines import events
from guardrails.pages import key_filters, key_page_parts, key_rows, key_url, page_urls
from guardrails.policy_pages import policy_url
from guardrails.policy_selectors import policies_visible_to, warnings_about_key
from guardrails.selectors import audit_lines, key_page, own_limits, own_rules
from guardrails.services.key_limits import create_limited_key, set_key_limits
from orgs.answers import alone, show_refusal
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.lookups import access_key_by_id
from orgs.models import ApiKey
from orgs.permissions import Permission

# Of the chosen keys; guardrails/bulk_views.py does them.
BULK_ACTIONS = [("enable", "Enable"), ("disable", "Disable"), ("delete", "Delete …")]
# Services name what the create form asks for in fewer fields.
FORM_FIELDS = {
    "expires_at": "expires_on",
    "daily_nano_usd": "budget",
    "monthly_nano_usd": "budget",
    "total_nano_usd": "budget",
    "member": "email",
}


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def keys(request: OrgRequest) -> HttpResponse:
    filters = key_filters(request.GET, actor=request.actor)
    page = key_page(request.actor, filters.narrowed, before=filters.before, after=filters.after, tree=filters.tree)
    rows = key_rows(page.keys, actor=request.actor)
    context = {
        "rows": rows,
        "may_create": request.actor.can_anywhere(Permission.MANAGE_OWN_KEYS),
        "may_select": any(row.may_manage for row in rows),
        "bulk_actions": BULK_ACTIONS,
        "filters": filters,
        "snippets": [] if rows else example_call.snippets(),
        **page_urls(request.GET, page),
    }
    return render(request, "guardrails/keys.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def new_key(request: OrgRequest) -> HttpResponse:
    form = NewKeyForm(request.POST if request.method == "POST" else None, actor=request.actor, chosen=request.GET)
    if form.is_valid():
        try:
            return show_once(request, *_created(form, request))
        except Refused as refused:
            show_refusal(form, refused, fields=FORM_FIELDS)
    context = {
        **_choices(form, request),
        "form_action": request.path,
        "dialog_size": "modal-lg",
        "back_url": reverse("guardrails:keys", kwargs={"org": request.organization.slug}),
    }
    return render(request, "guardrails/new_key.html", context, status=422 if form.is_bound else 200)


@require_safe
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def attribution(request: OrgRequest) -> HttpResponse:
    """The fields that depend on the group and the application chosen."""
    form = NewKeyForm(actor=request.actor, chosen=request.GET)
    return render(request, "guardrails/partials/_attribution.html", _choices(form, request))


def _choices(form: NewKeyForm, request: OrgRequest) -> dict[str, Any]:
    """A new key's form, and the policy that allows none more, with its address for whoever may see it."""
    full = form.full
    seen = full is not None and policies_visible_to(request.actor).filter(pk=full.policy.pk).exists()
    url = policy_url(full.policy, org=request.organization.slug) if full is not None and seen else ""
    return {"form": form, "full": full, "full_url": url}


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def key(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.VIEW_USAGE)
    return render(request, "guardrails/key.html", key_page_parts(found, actor=request.actor, tab="overview"))


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
@alone
def limits(request: OrgRequest, key_id: int) -> HttpResponse:
    """Everybody who sees the key may read them; whoever manages it may set them."""
    sent = request.method == "POST"
    found = access_key_by_id(request.actor, key_id, Permission.MANAGE_KEYS if sent else Permission.VIEW_USAGE)
    before = own_limits(found)
    form = LimitsForm.showing(before, own_rules(found), request.POST if sent else None)
    stops = None
    if form.is_valid():
        now = timezone.now()
        stops = stopping.by_own_limits(found, form.limits, before=before, organization=request.organization, now=now)
    if form.is_valid() and stopping.is_confirmed(stops, request.POST):
        try:
            set_key_limits(found, by=request.actor, rules=form.rules, **form.limits._asdict())
        except Refused as refused:
            show_refusal(form, refused)
        else:
            tell = messages.warning if stops else messages.success
            tell(request, f"The limits count from the next call on. {stops.words[0] if stops else ''}".strip())
            return redirect(request.path)
    context = {**key_page_parts(found, actor=request.actor, tab="limits"), "form": form, "stops": stops}
    return render(request, "guardrails/key_limits.html", context, status=422 if sent else 200)


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def oddities(request: OrgRequest, key_id: int) -> HttpResponse:
    """What is worth a look about its limits, for their page: they are compared with every policy on its path."""
    found = access_key_by_id(request.actor, key_id, Permission.VIEW_USAGE)
    return render(request, "guardrails/partials/_oddities.html", {"warnings": warnings_about_key(found, actor=request.actor)})


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def history(request: OrgRequest, key_id: int) -> HttpResponse:
    found = access_key_by_id(request.actor, key_id, Permission.VIEW_USAGE)
    lines = events(audit_lines(found))
    context = {**key_page_parts(found, actor=request.actor, tab="history"), "events": lines}
    return render(request, "guardrails/key_history.html", context)


def _created(form: NewKeyForm, request: OrgRequest) -> tuple[ApiKey, str]:
    typed = form.cleaned_data
    return create_limited_key(
        form.home,
        name=typed["name"],
        by=request.actor,
        limits=form.limits,
        rules=form.rules,
        member=form.member,
        application=typed["application"],
        environment=typed["environment"],
        features=typed["features"],
        expires_at=form.expires_at,
    )


def show_once(request: OrgRequest, key: ApiKey, text: str, *, title: str = "") -> HttpResponse:
    """The secret lives in this answer only: never in a session, a URL or a message."""
    context = {
        "secret": text,
        "secret_name": key.name,
        "secret_title": title,
        "secret_key": key,
        "base_url": example_call.base_url(),
        "model": example_call.model(),
        "snippets": example_call.snippets(key=text),
        "secret_warnings": warnings_about_key(key, actor=request.actor),
        "secret_other": key.member if key.member_id != request.actor.user.pk else None,
        "done_url": key_url(key),
        "dialog_static": True,
        "dialog_size": "modal-lg",
    }
    return render(request, "components/secret.html", context)
