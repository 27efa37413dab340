"""The page "Which route would win?": a key, a pasted request, and where the gateway would send it."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from orgs.actor import Actor
from orgs.doors import OrgRequest, org_view
from orgs.models import ApiKey
from orgs.permissions import Permission
from proxy import route_asking
from proxy.auto import LEANINGS
from proxy.errors import BadRequest, GuardrailsUnavailable
from proxy.explain_api import address_of
from proxy.explain_pages import key_choices, keys_named
from proxy.named import aliases_visible_to, presets_visible_to
from proxy.names import PRESET
from proxy.route_forms import RouteForm
from proxy.routing_pages import chat_models


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("body")
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def which(request: OrgRequest) -> HttpResponse:
    """What is pasted comes by POST, so that it stands in no address and no log of addresses."""
    sent = request.method == "POST"
    typed = (request.POST if sent else request.GET).get("key", "")[:80]
    named = keys_named(typed, actor=request.actor)
    key = named[0] if len(named) == 1 else None
    form = RouteForm(request.POST if sent else None, initial={"model": request.GET.get("model", "")[:200]})
    may_route = request.actor.can_anywhere(Permission.MANAGE_ROUTING)
    context: dict[str, Any] = {
        "may_route": may_route,
        "form": form,
        "key": key,
        "named": named,
        "key_typed": typed,
        "keys": key_choices(request.actor),
    }
    if key is not None and form.is_valid():
        context |= _answer(request, key, form)
    context["models"] = _names(request.actor)
    wrong = sent and (key is None or bool(form.errors))
    return render(request, "proxy/which_route.html", context, status=422 if wrong else 200)


def _answer(request: OrgRequest, key: ApiKey, form: RouteForm) -> dict[str, Any]:
    try:
        body = route_asking.body_of(form.cleaned_data["body"], model=form.cleaned_data["model"].strip())
        route = route_asking.route_of(key, body, address=address_of(request))
    except BadRequest as error:
        form.add_error("model" if error.param == "model" else "body", error.message)
    except GuardrailsUnavailable:
        return {"unavailable": True}
    else:
        need = round(100 * route.call.decision.need) if route.call.decision is not None else 0
        needs = sorted(one.replace("_", " ") for one in route.call.asked.needs)
        return {"route": route, "need_percent": need, "needs": needs}
    return {}


def _names(actor: Actor) -> list[str]:
    """What a request of one's own keys may name."""
    presets = presets_visible_to(actor).filter(archived_at=None)
    given = [*(alias.name for alias in aliases_visible_to(actor)), *(f"{PRESET}{preset.name}" for preset in presets)]
    return list(dict.fromkeys([*LEANINGS, *given, *sorted(chat_models())]))
