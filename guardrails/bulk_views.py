"""Several keys at once: one confirmation, then each by itself; what is refused is told key by key."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from gateway_project.lib.queries import ids_in
from guardrails.services.several import MOST_KEYS, Outcome, change_keys
from orgs.actor import Actor
from orgs.answers import go_to
from orgs.doors import OrgRequest, org_view
from orgs.models import ApiKey
from orgs.permissions import Permission
from orgs.selectors import keys_visible_to


class Action(NamedTuple):
    """`done` follows "3 keys are"; `losses` say what a confirmation must."""

    verb: str
    done: str
    losses: tuple[str, ...]


ACTIONS = {
    "disable": Action("Disable", "disabled", ("The next call with any of them is refused. They can be enabled again.",)),
    "enable": Action("Enable", "enabled again", ("They work again from the next call on.",)),
    "delete": Action(
        "Delete",
        "deleted",
        ("Programs that use them are refused for ever.", "Their calls stay in the ledger and the call log."),
    ),
}


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_OWN_KEYS, Permission.MANAGE_KEYS)
def bulk(request: OrgRequest) -> HttpResponse:
    """GET asks, POST does; 422 where nothing was chosen, the words were not typed, or a key was refused."""
    query = request.POST if request.method == "POST" else request.GET
    action, keys = ACTIONS.get(query.get("action", "")), _chosen(query, actor=request.actor)
    back = reverse("guardrails:keys", kwargs={"org": request.organization.slug})
    words = f"delete {len(keys)} {'key' if len(keys) == 1 else 'keys'}" if query.get("action") == "delete" else ""
    error, outcomes = "", list[Outcome]()
    if action and keys and request.method == "POST":
        error = "" if query.get("confirm", "").strip() == words else "These are not the words."
        outcomes = [] if error else change_keys(keys, change=query["action"], by=request.actor)
        if outcomes and not any(outcome.refusal for outcome in outcomes):
            messages.success(request, f"{_counted(keys)} {action.done}.")
            return go_to(request, back)
    context: dict[str, Any] = {
        "action": action,
        "name": query.get("action"),
        "keys": keys,
        "words": words,
        "confirm_error": error,
    }
    context |= {"outcomes": outcomes, "back_url": back, "form_action": request.path if keys and not outcomes else ""}
    return render(
        request, "guardrails/bulk.html", context, status=422 if request.method == "POST" or not (action and keys) else 200
    )


def _chosen(query: QueryDict, *, actor: Actor) -> list[ApiKey]:
    """Those of the ids that the actor may see; the rest is as absent as what does not exist."""
    ids = ids_in(query.getlist("key"), most=MOST_KEYS)
    return list(keys_visible_to(actor).filter(pk__in=ids, revoked_at=None).order_by("name", "pk")) if ids else []


def _counted(keys: list[ApiKey]) -> str:
    return f"{len(keys)} keys are" if len(keys) != 1 else f"{keys[0].name} is"
