"""Own provider keys: the list, adding and changing one, a test with a real request, on and off, and the end of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs.answers import alone, go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from proxy import key_tests
from proxy import provider_keys as services
from proxy.models import ProviderKey
from proxy.provider_key_forms import ChangeForm, ProviderKeyForm
from proxy.provider_key_pages import listed

MANAGE = Permission.MANAGE_PROVIDER_KEYS


@require_safe
@org_view(MANAGE)
def provider_keys(request: OrgRequest) -> HttpResponse:
    context = {"rows": listed(services.visible_to(request.actor)), "has_places": bool(services.places())}
    return render(request, "proxy/provider_keys.html", context)


@sensitive_post_parameters("secret")
@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
def new(request: OrgRequest) -> HttpResponse:
    form = ProviderKeyForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        typed = {name: value for name, value in form.cleaned_data.items() if name != "place"}
        try:
            key = services.add(typed.pop("group"), place=form.place_chosen, by=request.actor, **typed)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"{key} is used from the next call on. Test it to be sure that it works.")
    return _form(request, form, "proxy/provider_key_new.html")


@sensitive_post_parameters("secret")
@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
@alone
def edit(request: OrgRequest, provider_key_id: int) -> HttpResponse:
    key = services.access_provider_key_by_id(request.actor, provider_key_id)
    form = ChangeForm(request.POST if request.method == "POST" else None, key=key)
    if form.is_valid():
        try:
            services.change(key, by=request.actor, **{"base_url": "", **form.cleaned_data})
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"{form.cleaned_data['name']} is changed. It counts on the next call.")
    return _form(request, form, "proxy/provider_key_edit.html", key=key)


@require_POST
@org_view(MANAGE)
def test(request: OrgRequest, provider_key_id: int) -> HttpResponse:
    key = services.access_provider_key_by_id(request.actor, provider_key_id)
    result = key_tests.ask(key)
    return _tried(request, lambda: services.note_test(key, passed=result.passed, result=result.text, by=request.actor))


@require_POST
@org_view(MANAGE)
def disable(request: OrgRequest, provider_key_id: int) -> HttpResponse:
    key = services.access_provider_key_by_id(request.actor, provider_key_id)
    done = f"{key} is off: calls go as if it were not there."
    return _tried(request, lambda: services.set_enabled(key, False, by=request.actor), done)


@require_POST
@org_view(MANAGE)
def enable(request: OrgRequest, provider_key_id: int) -> HttpResponse:
    key = services.access_provider_key_by_id(request.actor, provider_key_id)
    return _tried(request, lambda: services.set_enabled(key, True, by=request.actor), f"{key} is used again.")


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
def delete(request: OrgRequest, provider_key_id: int) -> HttpResponse:
    key = services.access_provider_key_by_id(request.actor, provider_key_id)
    if request.method == "POST":
        return _tried(request, lambda: services.delete(key, by=request.actor), f"{key} is deleted.")
    context = {
        "form_action": request.path,
        "back_url": _home(request),
        "confirm_title": f"Delete {key}?",
        "confirm_losses": ["The key is gone from here: the provider still has it.", _afterwards(key)],
        "confirm_hint": "To see what happens without it, disable it first.",
        "confirm_verb": "Delete provider key",
    }
    return render(request, "components/confirm.html", context)


def _afterwards(key: ProviderKey) -> str:
    return f"Calls of {key.group} go with the next key above, or with the gateway's own, charged to the credit pool."


def _tried(request: OrgRequest, change: Callable[[], object], done: str = "") -> HttpResponse:
    tried(request, change, done)
    return go_to(request, _home(request))


def _form(request: OrgRequest, form: Any, template: str, **more: Any) -> HttpResponse:
    context = {"form": form, "form_action": request.path, "back_url": _home(request), **more}
    return render(request, template, context, status=422 if form.is_bound else 200)


def _done(request: OrgRequest, words: str) -> HttpResponse:
    messages.success(request, words)
    return go_to(request, _home(request))


def _home(request: OrgRequest) -> str:
    return reverse("provider_keys:list", kwargs={"org": request.organization.slug})
