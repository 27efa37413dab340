"""Several keys at once: one confirmation, then each by itself; what is refused is told key by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from gateway_project.lib.queries import ids_in
from orgs.actor import Actor
from orgs.answers import go_to
from orgs.doors import OrgRequest, org_view
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey
from orgs.permissions import Permission
from orgs.selectors import keys_visible_to
from orgs.services.keys import disable_key, enable_key, revoke_key

# More than a page of the list has: what is ticked there, whoever makes up the address.
MOST_KEYS = 200


class Action(NamedTuple):
    """`done` follows "3 keys are"; `losses` say what a confirmation must."""

    change: Callable[..., ApiKey]
    verb: str
    done: str
    losses: tuple[str, ...]


class Outcome(NamedTuple):
    key: ApiKey
    refusal: str


def _delete(key: ApiKey, *, by: Actor) -> ApiKey:
    """As on the key's own page: what can be undone comes before what cannot."""
    if key.status == "active":
        raise Refused("Disable it first: that can be undone.")
    return revoke_key(key, by=by)


ACTIONS = {
    "disable": Action(
        disable_key, "Disable", "disabled", ("The next call with any of them is refused. They can be enabled again.",)
    ),
    "enable": Action(enable_key, "Enable", "enabled again", ("They work again from the next call on.",)),
    "delete": Action(
        _delete,
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
        outcomes = [] if error else _done(action, keys, by=request.actor)
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


def _done(action: Action, keys: Iterable[ApiKey], *, by: Actor) -> list[Outcome]:
    outcomes = []
    for key in keys:
        try:
            outcomes.append(Outcome(action.change(key, by=by), ""))
        except Refused as refused:
            outcomes.append(Outcome(key, refused.message))
        except NotAllowed as missing:
            outcomes.append(Outcome(key, f"You lack the permission “{missing.permission.label}” for it."))
    return outcomes


def _counted(keys: list[ApiKey]) -> str:
    return f"{len(keys)} keys are" if len(keys) != 1 else f"{keys[0].name} is"
