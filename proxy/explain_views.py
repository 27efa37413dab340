"""The page "Why may this key do this?": a key, a call that could be made, and every limit and rule in its way."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from orgs.doors import OrgRequest, org_view
from orgs.models import ApiKey
from orgs.permissions import Permission
from proxy.errors import GuardrailsUnavailable
from proxy.explain_api import address_of, explanation_of
from proxy.explain_forms import QuestionForm
from proxy.explain_pages import key_choices, keys_named, nodes_of, summary_of
from proxy.known_models import chat_model_names
from proxy.own_ways import own_way


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def explain(request: OrgRequest) -> HttpResponse:
    named = keys_named(request.GET.get("key", "")[:80], actor=request.actor)
    key = named[0] if len(named) == 1 else None
    asked = bool(key and request.GET.get("model"))
    form = QuestionForm(request.GET if asked else None, initial=_initial(request))
    form.fields["address"].widget.attrs["placeholder"] = address_of(request)
    context: dict[str, Any] = {
        "form": form,
        "key": key,
        "named": named,
        "key_typed": request.GET.get("key", "")[:80],
        "keys": key_choices(request.actor),
        "models": chat_model_names(),
    }
    if key is not None and form.is_valid():
        context |= _answer(request, key, form)
    return render(request, "proxy/explain.html", context)


def _answer(request: OrgRequest, key: ApiKey, form: QuestionForm) -> dict[str, Any]:
    question = form.question(address=address_of(request))
    try:
        explanation = explanation_of(key, question)
    except GuardrailsUnavailable:
        return {"unavailable": True}
    refusal = explanation.refusal
    return {
        "explanation": explanation,
        "nodes": nodes_of(explanation, actor=request.actor),
        "summary": summary_of(explanation, way=own_way(refusal, actor=request.actor, key=key) if refusal else None),
        "assumed": form.assumed(question),
    }


def _initial(request: OrgRequest) -> dict[str, Any]:
    given = {name: request.GET[name] for name in QuestionForm.base_fields if request.GET.get(name)}
    return {"input_tokens": 1000, "address": address_of(request), **given}
