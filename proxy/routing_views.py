"""Routing: aliases, what `auto` chooses from, and the deployments with their health."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs.answers import alone, go_to, show_refusal
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from proxy import choice_services, naming_services
from proxy.auto import LEANINGS
from proxy.named import access_alias_by_id, presets_visible_to
from proxy.naming_forms import AliasForm, TargetForm
from proxy.routing_pages import alias_rows, auto_of, chat_models, model_rows

PAGE = ["GET", "HEAD", "POST"]


@require_safe
@org_view(Permission.MANAGE_ROUTING)
def page(request: OrgRequest) -> HttpResponse:
    context = {"aliases": alias_rows(request.actor), "models": model_rows(), **auto_of(request.actor)}
    return render(request, "proxy/routing.html", context)


@require_safe
@org_view(Permission.MANAGE_ROUTING)
def health(request: OrgRequest) -> HttpResponse:
    """The table of deployments again, every few seconds."""
    return render(request, "proxy/partials/_deployments.html", {"models": model_rows()})


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_ROUTING)
def new_alias(request: OrgRequest) -> HttpResponse:
    form = AliasForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            made = naming_services.create_alias(typed["group"], name=typed["name"], model=typed["model"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"{made} stands for {made.model} from the next call on.")
    context = {"form": form, "names": [*chat_models(), *LEANINGS], "form_action": request.path, "back_url": _url(request)}
    return render(request, "proxy/alias.html", context, status=422 if form.is_bound else 200)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_ROUTING)
@alone
def edit_alias(request: OrgRequest, alias_id: int) -> HttpResponse:
    alias = access_alias_by_id(request.actor, alias_id)
    request.actor.require(Permission.MANAGE_ROUTING, alias.group)
    form = TargetForm(request.POST if request.method == "POST" else None, there={"model": alias.model})
    if form.is_valid():
        try:
            naming_services.change_alias(alias, model=form.cleaned_data["model"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"{alias} stands for {form.cleaned_data['model']} from the next call on.")
    context = {"form": form, "alias": alias, "names": [*chat_models(), *LEANINGS]}
    context |= {"form_action": request.path, "back_url": _url(request)}
    return render(request, "proxy/alias.html", context, status=422 if form.is_bound else 200)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_ROUTING)
def delete_alias(request: OrgRequest, alias_id: int) -> HttpResponse:
    """What is lost is named, and the name is typed."""
    alias = access_alias_by_id(request.actor, alias_id)
    request.actor.require(Permission.MANAGE_ROUTING, alias.group)
    error = ""
    if request.method == "POST":
        if request.POST.get("confirm", "").strip() == alias.name:
            naming_services.delete_alias(alias, by=request.actor)
            return _done(request, f"The alias {alias} was deleted.")
        error = "The name is not the same."
    users = presets_visible_to(request.actor).filter(model__iexact=alias.name, archived_at=None)
    context = {
        "form_action": request.path,
        "back_url": _url(request),
        "confirm_title": "Delete this alias?",
        "confirm_name": alias.name,
        "confirm_losses": [
            f"Calls of {alias.group} and below that ask for {alias.name} are refused: the model does not exist.",
            *(f"The preset {preset} goes to it, and no longer works." for preset in users),
        ],
        "confirm_verb": "Delete alias",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


@require_POST
@org_view(Permission.MANAGE_ROUTING)
def add_candidate(request: OrgRequest) -> HttpResponse:
    return _chosen(request, lambda: choice_services.add_candidate(request.POST.get("model", ""), by=request.actor))


@require_POST
@org_view(Permission.MANAGE_ROUTING)
def remove_candidate(request: OrgRequest) -> HttpResponse:
    return _chosen(request, lambda: choice_services.remove_candidate(request.POST.get("model", ""), by=request.actor))


@require_POST
@org_view(Permission.MANAGE_ROUTING)
def move_candidate(request: OrgRequest) -> HttpResponse:
    stronger = request.POST.get("to") == "stronger"
    name = request.POST.get("model", "")
    return _chosen(request, lambda: choice_services.move_candidate(name, by=request.actor, stronger=stronger))


@require_POST
@org_view(Permission.MANAGE_ROUTING)
def set_baseline(request: OrgRequest) -> HttpResponse:
    return _chosen(request, lambda: choice_services.set_baseline(request.POST.get("model", ""), by=request.actor))


def _chosen(request: OrgRequest, change: Callable[[], None]) -> HttpResponse:
    """With htmx the card again, without it the page."""
    refusal = ""
    try:
        change()
    except Refused as refused:
        refusal = refused.message
    if request.htmx:
        context = {**auto_of(request.actor), "refusal": refusal}
        return render(request, "proxy/partials/_auto.html", context, status=422 if refusal else 200)
    if refusal:
        messages.error(request, refusal)
    return redirect(f"{_url(request)}#auto")


def _done(request: OrgRequest, words: str) -> HttpResponse:
    messages.success(request, words)
    return go_to(request, _url(request))


def _url(request: OrgRequest) -> str:
    return reverse("routing:page", kwargs={"org": request.organization.slug})
