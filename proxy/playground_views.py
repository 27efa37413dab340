"""The playground: a conversation with a model through one of the member's own keys."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from guardrails import example_call
from orgs.doors import OrgRequest, org_view
from orgs.lookups import access_own_key_by_id
from orgs.permissions import Permission
from orgs.selectors import own_keys
from proxy.playground_pages import choices_of, chosen_key, outcome_of


@require_safe
@org_view(Permission.MANAGE_OWN_KEYS)
def page(request: OrgRequest) -> HttpResponse:
    keys = list(own_keys(request.actor))
    key = chosen_key(keys, request.GET.get("key", ""))
    context = {
        "keys": keys,
        "key": key,
        "choices": choices_of(key, model=request.GET.get("model", "")) if key else None,
        "base_url": example_call.base_url(),
    }
    return render(request, "proxy/playground.html", context)


@require_POST
@org_view(Permission.MANAGE_OWN_KEYS)
def call(request: OrgRequest, *, key_id: int) -> HttpResponse:
    """May this person call with this key? The call itself is served by `proxy.views.PlaygroundCalls`, once this says 204."""
    access_own_key_by_id(request.actor, key_id)
    return HttpResponse(status=204)


@require_safe
@org_view(Permission.MANAGE_OWN_KEYS)
def outcome(request: OrgRequest, *, call_id: UUID) -> HttpResponse:
    """What one of the member's own calls came to; nothing while its row is not there."""
    record = outcome_of(request.actor, call_id)
    if record is None:
        return HttpResponse(status=204)
    return render(request, "proxy/partials/_outcome.html", {"call": record})
