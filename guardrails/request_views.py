"""Requests: asking for a model, and deciding about what was asked."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from guardrails import requests
from guardrails.models import Request
from guardrails.request_forms import AnswerForm, ApproveForm, AskForm, DirectForm
from guardrails.request_pages import model_rows, request_rows
from orgs.answers import go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from orgs.selectors import key_homes

# Characters of a model's name.
MOST_NAME = 200


@require_safe
@org_view(Permission.VIEW_OWN, Permission.MANAGE_GUARDRAILS)
def page(request: OrgRequest) -> HttpResponse:
    actor = request.actor
    rows = request_rows(requests.requests_visible_to(actor)[: requests.SHOWN], actor=actor)
    decides = actor.can_anywhere(Permission.MANAGE_GUARDRAILS)
    homes = [] if decides else list(key_homes(actor))
    models = model_rows(requests.models_to_approve(actor), requests.approvals_of(actor), rows, homes=homes)
    context = {
        "since": request.organization.approval_since,
        "decides": decides,
        "may_set": actor.can_everywhere(Permission.MANAGE_SETTINGS),
        "may_ask": not all(row.everywhere or row.for_own for row in models) and actor.can_anywhere(Permission.MANAGE_OWN_KEYS),
        "waiting": [row for row in rows if row.may_decide],
        "others": [row for row in rows if not row.may_decide],
        "models": models,
    }
    return render(request, "guardrails/requests.html", context)


@require_safe
@org_view(Permission.MANAGE_GUARDRAILS)
def waiting(request: OrgRequest) -> HttpResponse:
    """For the menu of every page: how many wait for this very person."""
    return render(request, "guardrails/partials/_waiting.html", {"waiting": requests.waiting_for(request.actor).count()})


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_OWN_KEYS)
def new(request: OrgRequest) -> HttpResponse:
    posted = request.POST if request.method == "POST" else None
    chosen = (posted or request.GET).get("model", "")[:MOST_NAME]
    offered, approvals = requests.models_to_approve(request.actor, naming=chosen), requests.approvals_of(request.actor)
    models = [one for one in offered if not requests.approved_everywhere(one.name, approvals)]
    why_not = requests.why_not_to_ask(chosen, models=models, approvals=approvals) if chosen else ""
    form = AskForm(posted, actor=request.actor, models=models, chosen=chosen)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            requests.request_model(typed["model"], group=typed["group"], by=request.actor, reason=typed["reason"])
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"You have asked for {typed['model']}. Whoever may approve it sees it now.")
    return _form(request, form, "guardrails/request_new.html", models=models, why_not=why_not)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_GUARDRAILS)
def approve(request: OrgRequest, request_id: int) -> HttpResponse:
    found = requests.access_request_by_id(request.actor, request_id)
    nodes = requests.nodes_to_approve_for(found, actor=request.actor)
    form = ApproveForm(request.POST if request.method == "POST" else None, nodes=nodes)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            requests.approve(found, by=request.actor, group=typed["group"], answer=typed["answer"])
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"{found.model} may be called in {typed['group']} from the next call on.")
    return _form(request, form, "guardrails/request_approve.html", asked=found)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_GUARDRAILS)
def approve_model(request: OrgRequest) -> HttpResponse:
    """Without a request: from the list of models that wait."""
    posted = request.POST if request.method == "POST" else None
    form = DirectForm(posted, actor=request.actor, chosen=request.GET.get("model", "")[:MOST_NAME])
    if form.is_valid():
        typed = form.cleaned_data
        try:
            requests.approve_model(typed["model"], group=typed["group"], by=request.actor)
        except Refused as refused:
            form.add_error(None, refused.message)
        else:
            return _done(request, f"{typed['model']} may be called in {typed['group']} from the next call on.")
    return _form(request, form, "guardrails/request_direct.html", model=form["model"].value())


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_GUARDRAILS)
def decline(request: OrgRequest, request_id: int) -> HttpResponse:
    found = requests.access_request_by_id(request.actor, request_id)
    form = AnswerForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            requests.decline(found, by=request.actor, answer=form.cleaned_data["answer"])
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return _done(request, f"Declined: {found.requested_by} sees your answer.")
    return _form(request, form, "guardrails/request_decline.html", asked=found)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_GUARDRAILS)
def revoke(request: OrgRequest, request_id: int) -> HttpResponse:
    found = requests.access_request_by_id(request.actor, request_id)
    form = AnswerForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            ended = requests.revoke(found, by=request.actor, answer=form.cleaned_data["answer"])
        except Refused as refused:
            show_refusal(form, refused)
        else:
            others = len(ended) - 1
            more = f", nor for {others} group{'' if others == 1 else 's'} below it" if others else ""
            return _done(request, f"{found.model} is no longer approved for {found.group}{more}.")
    return _form(request, form, "guardrails/request_revoke.html", asked=found)


@require_POST
@org_view(Permission.VIEW_OWN)
def withdraw(request: OrgRequest, request_id: int) -> HttpResponse:
    found = requests.access_request_by_id(request.actor, request_id)
    tried(request, lambda: requests.withdraw(found, by=request.actor), f"You no longer ask for {found.model}.")
    return redirect(_home(request))


def _form(request: OrgRequest, form: Any, template: str, *, asked: Request | None = None, **more: Any) -> HttpResponse:
    context = {"form": form, "form_action": request.path, "back_url": _home(request), "asked": asked, **more}
    return render(request, template, context, status=422 if form.is_bound else 200)


def _done(request: OrgRequest, words: str) -> HttpResponse:
    messages.success(request, words)
    return go_to(request, _home(request))


def _home(request: OrgRequest) -> str:
    return reverse("requests:page", kwargs={"org": request.organization.slug})
