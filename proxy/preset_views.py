"""Presets: those that are shared with one's groups, one with its snippet, and what can be done with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from guardrails import example_call
from guardrails.policy_pages import with_undo
from orgs.answers import alone, go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from proxy import naming_services
from proxy.auto import LEANINGS
from proxy.models import Preset
from proxy.named import access_preset_by_id, aliases_visible_to
from proxy.naming_forms import PresetForm
from proxy.preset_pages import card_of, cards_of
from proxy.routing_pages import chat_models

PAGE = ["GET", "HEAD", "POST"]


@require_safe
@org_view(Permission.VIEW_OWN, Permission.MANAGE_ROUTING)
def presets(request: OrgRequest) -> HttpResponse:
    used, archived = cards_of(request.actor)
    context = {"cards": used, "archived": archived, "may_create": request.actor.can_anywhere(Permission.MANAGE_ROUTING)}
    return render(request, "proxy/presets.html", context)


@require_safe
@org_view(Permission.VIEW_OWN, Permission.MANAGE_ROUTING)
def preset(request: OrgRequest, preset_id: int) -> HttpResponse:
    card = card_of(access_preset_by_id(request.actor, preset_id), actor=request.actor)
    context = {"card": card, "snippets": example_call.snippets(card.called), "back_url": _list_url(request)}
    return render(request, "proxy/preset.html", context)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_ROUTING)
def new(request: OrgRequest) -> HttpResponse:
    form = PresetForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            made = naming_services.create_preset(typed["group"], name=typed["name"], words=form.words, by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"The preset {made} is shared with {made.group}: ask for preset:{made}.")
            return redirect(_list_url(request))
    return _form_page(request, form)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_ROUTING)
@alone
def edit(request: OrgRequest, preset_id: int) -> HttpResponse:
    found = _changeable(request, preset_id)
    form = PresetForm(request.POST if request.method == "POST" else None, actor=request.actor, preset=found)
    if form.is_valid():
        try:
            naming_services.change_preset(found, words=form.words, by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, "Saved. It counts from the next call on.")
            return redirect(_list_url(request))
    return _form_page(request, form, preset=found)


@require_POST
@org_view(Permission.MANAGE_ROUTING)
def archive(request: OrgRequest, preset_id: int) -> HttpResponse:
    found = _changeable(request, preset_id)
    naming_services.archive_preset(found, by=request.actor)
    again = reverse("presets:restore", kwargs={"org": request.organization.slug, "preset_id": found.pk})
    messages.success(request, with_undo(f"The preset {found} is archived: calls that ask for it are refused.", url=again))
    return _back(request)


@require_POST
@org_view(Permission.MANAGE_ROUTING)
def restore(request: OrgRequest, preset_id: int) -> HttpResponse:
    found = _changeable(request, preset_id)
    tried(request, lambda: naming_services.restore_preset(found, by=request.actor), f"The preset {found} is back.")
    return _back(request)


def _changeable(request: OrgRequest, preset_id: int) -> Preset:
    """Raises Http404, NotAllowed."""
    found = access_preset_by_id(request.actor, preset_id)
    request.actor.require(Permission.MANAGE_ROUTING, found.group)
    return found


def _form_page(request: OrgRequest, form: PresetForm, *, preset: Preset | None = None) -> HttpResponse:
    aliases = aliases_visible_to(request.actor).values_list("name", flat=True)
    names = [*LEANINGS, *dict.fromkeys(aliases), *sorted(chat_models())]
    context: dict[str, Any] = {"form": form, "preset": preset, "names": names, "back_url": _list_url(request)}
    return render(request, "proxy/preset_form.html", context, status=422 if form.is_bound else 200)


def _back(request: OrgRequest) -> HttpResponse:
    return go_to(request, _list_url(request))


def _list_url(request: OrgRequest) -> str:
    return reverse("presets:list", kwargs={"org": request.organization.slug})
