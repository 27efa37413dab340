"""How a page answers what was sent to it: what is wrong beside the field, or a message and the way to the next page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Concatenate, ParamSpec

from django.contrib import messages
from django.forms import Form
from django.http import HttpResponse
from django.shortcuts import redirect
from django_htmx.http import HttpResponseClientRedirect

from orgs.doors import OrgRequest, SignedInRequest
from orgs.errors import Refused
from orgs.services.changes import holding

P = ParamSpec("P")


def alone(view: Callable[Concatenate[OrgRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
    """For pages of a form that is filled from what is there (gateway_project/lib/filled.py), behind `org_view`: what is sent
    is compared and saved while nobody else changes the organisation. Not for views that ask another server."""

    @functools.wraps(view)
    def held(request: OrgRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        with holding(request.organization, refreshed=True):  # it was read before the lock
            return view(request, *args, **kwargs)

    return held


def show_refusal(form: Form, refused: Refused, *, fields: Mapping[str, str] | None = None) -> None:
    """A service's refusal beside the field it is about; `fields` names those that the form calls otherwise."""
    name = (fields or {}).get(refused.field or "", refused.field)
    form.add_error(name if name in form.fields else None, refused.message)


def tried(request: SignedInRequest, change: Callable[[], object], done: str = "") -> bool:
    """Whether it was done. That, in the words given, or why it was refused stands on the next page."""
    try:
        change()
    except Refused as refused:
        messages.error(request, refused.message)
        return False
    if done:
        messages.success(request, done)
    return True


def confirmed(request: SignedInRequest, change: Callable[[], object], *, name: str) -> str:
    """Does it if the name was typed. Empty, or why it was not done, for the page that asks."""
    if request.POST.get("confirm", "").strip() != name:
        return "The name is not the same."
    try:
        change()
    except Refused as refused:
        return refused.message
    return ""


def go_to(request: SignedInRequest, url: str) -> HttpResponse:
    """Out of a dialog the browser goes there as a whole."""
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)
