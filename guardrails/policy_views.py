"""Policies: the list, one policy, and what can be done with it."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gateway_project.lib.rows import sole
from guardrails import offered, stopping
from guardrails.limit_rows import CHOICES, Row
from guardrails.models import Policy
from guardrails.policy_forms import PolicyForm
from guardrails.policy_history import events
from guardrails.policy_pages import (
    applied_rows,
    binding_rows,
    override_rows,
    policy_rows,
    policy_url,
    rule_lists,
    switch_words,
    words_of_limits,
)
from guardrails.policy_selectors import (
    applying_to,
    bindings_of,
    history_of,
    homes_of,
    listed_policies,
    overrides_of,
    policies_visible_to,
    uses_of,
    warnings_about,
    with_paths,
)
from guardrails.services.policies import change_policy, copy_policy, create_policy, delete_policy, may_change, require_change
from guardrails.stopping import Stopped
from orgs.answers import alone, confirmed, go_to, show_refusal
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission

PAGE = ["GET", "HEAD", "POST"]


@require_safe
@org_view(Permission.VIEW_OWN, Permission.VIEW_USAGE)
def policies(request: OrgRequest) -> HttpResponse:
    """Whoever sees nothing beyond itself sees what applies to it."""
    actor = request.actor
    if not actor.can_anywhere(Permission.VIEW_USAGE):
        return mine(request)
    found, bindings = listed_policies(actor)
    uses = uses_of(bindings, organization=request.organization, now=timezone.now())
    context = {
        "rows": policy_rows(found, bindings, uses, org=request.organization.slug),
        "may_create": actor.can_anywhere(Permission.MANAGE_GUARDRAILS),
    }
    return render(request, "guardrails/policies.html", context)


@require_safe
@org_view(Permission.VIEW_OWN)
def own(request: OrgRequest) -> HttpResponse:
    return mine(request)


def mine(request: OrgRequest) -> HttpResponse:
    """What applies to the viewer and its keys."""
    context = {
        "places": [(name, applied_rows(applied)) for name, applied in applying_to(request.actor)],
        "sees_others": request.actor.can_anywhere(Permission.VIEW_USAGE),
    }
    return render(request, "guardrails/my_policies.html", context)


@require_safe
@org_view(Permission.VIEW_USAGE)
def policy(request: OrgRequest, policy_id: int) -> HttpResponse:
    found, now = visible(request, policy_id), timezone.now()
    bindings = bindings_of(found, actor=request.actor)
    overrides = overrides_of(found, actor=request.actor, now=now)
    with_paths([*bindings, *overrides])
    homes = homes_of([*bindings, *overrides], organization=request.organization)
    uses = uses_of(bindings, organization=request.organization, now=now, overrides=overrides)
    rows = binding_rows(bindings, uses, homes, actor=request.actor)
    context = {
        "policy": found,
        "limits": words_of_limits(found),
        "rules": rule_lists(found),
        "switches": switch_words(found),
        "bindings": rows,
        "overrides": override_rows(overrides, homes, actor=request.actor),
        "may_change": may_change(found, by=request.actor),
        "may_bind": request.actor.can_anywhere(Permission.MANAGE_GUARDRAILS),
        "may_read_history": request.actor.can_anywhere(Permission.VIEW_AUDIT),
    }
    return render(request, "guardrails/policy.html", context)


@require_safe
@org_view(Permission.VIEW_USAGE)
def oddities(request: OrgRequest, policy_id: int) -> HttpResponse:
    """What is worth a look about it, for its page: it is compared with every policy on its paths."""
    context = {"warnings": warnings_about(visible(request, policy_id, whole=False), actor=request.actor)}
    return render(request, "guardrails/partials/_oddities.html", context)


@require_safe
@org_view(Permission.VIEW_AUDIT)
def history(request: OrgRequest, policy_id: int) -> HttpResponse:
    """Who changed it, from the audit trail, for its page."""
    context = {"events": events(history_of(visible(request, policy_id, whole=False), actor=request.actor))}
    return render(request, "guardrails/partials/_history.html", context)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GUARDRAILS)
def new_policy(request: OrgRequest) -> HttpResponse:
    form = PolicyForm(request.POST if request.method == "POST" else None, rows=[Row("budget month", "")])
    if form.is_valid():
        try:
            made = create_policy(request.organization, by=request.actor, **form.wanted)
        except Refused as refused:
            _show(form, refused)
        else:
            messages.success(request, f"The policy {made} was created. It governs nobody until you bind it.")
            return redirect(policy_url(made, org=request.organization.slug))
    return _form_page(request, form, back=_list_url(request))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GUARDRAILS)
@alone
def edit(request: OrgRequest, policy_id: int) -> HttpResponse:
    found = changeable(request, policy_id)
    form = PolicyForm.showing(found, request.POST if request.method == "POST" else None)
    stops = _stops(request, found, form) if form.is_valid() else None
    if form.is_valid() and stopping.is_confirmed(stops, request.POST):
        try:
            change_policy(found, by=request.actor, **form.wanted)
        except Refused as refused:
            _show(form, refused)
        else:
            if stops:
                messages.warning(request, f"Saved. Calls of {stops.subjects:,} that it governs are refused from the next one on.")
            else:
                messages.success(request, "Saved. It counts from the next call on; what was spent stays spent.")
            return redirect(policy_url(found, org=request.organization.slug))
    return _form_page(request, form, back=policy_url(found, org=request.organization.slug), policy=found, stops=stops)


@require_safe
@org_view(Permission.MANAGE_GUARDRAILS)
def limit_row(request: OrgRequest) -> HttpResponse:
    """One row of the form: a new one, or the same with the unit of what is chosen."""
    what = request.GET.get("limit", "")
    own_keys = request.GET.get("own_keys") == "on"
    row = Row(what if what in CHOICES else "budget day", request.GET.get("value", "")[:30], counts_byok=own_keys)
    return render(request, "guardrails/partials/_limit_row.html", {"row": row})


@require_POST
@org_view(Permission.MANAGE_GUARDRAILS)
def copy(request: OrgRequest, policy_id: int) -> HttpResponse:
    found = visible(request, policy_id)
    try:
        made = copy_policy(found, by=request.actor)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect(policy_url(found, org=request.organization.slug))
    messages.success(request, f"The copy {made} was created. It governs nobody until you bind it.")
    return redirect(policy_url(made, org=request.organization.slug))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GUARDRAILS)
def delete(request: OrgRequest, policy_id: int) -> HttpResponse:
    """What it governs is named, and the name is typed."""
    found = changeable(request, policy_id)
    error = ""
    if request.method == "POST":
        error = confirmed(request, lambda: delete_policy(found, by=request.actor, confirmed=True), name=found.name)
        if not error:
            messages.success(request, f"The policy {found.name} was deleted.")
            return go_to(request, _list_url(request))
    context = {
        "form_action": request.path,
        "back_url": policy_url(found, org=request.organization.slug),
        "confirm_title": "Delete this policy?",
        "confirm_name": found.name,
        "confirm_losses": _losses(found),
        "confirm_verb": "Delete policy",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


def visible(request: OrgRequest, policy_id: int, *, whole: bool = True) -> Policy:
    """The same 404 for absent, another organisation's and out of reach; `whole`: with limits and rules. Raises Http404."""
    policies = policies_visible_to(request.actor)
    found = sole((policies if whole else policies.prefetch_related(None)).filter(pk=policy_id))
    if found is None:
        raise Http404("no such policy")
    return found


def changeable(request: OrgRequest, policy_id: int) -> Policy:
    """Raises Http404; NotAllowed where it governs something out of the actor's reach, or nobody and is another's."""
    found = visible(request, policy_id)
    require_change(found, by=request.actor)
    return found


def _stops(request: OrgRequest, policy: Policy, form: PolicyForm) -> Stopped | None:
    return stopping.by_policy(policy, form.specs, organization=request.organization, now=timezone.now())


def _show(form: PolicyForm, refused: Refused) -> None:
    if not form.refuse_row(refused.field or "", refused.message):
        show_refusal(form, refused)


def _form_page(
    request: OrgRequest, form: PolicyForm, *, back: str, policy: Policy | None = None, stops: Stopped | None = None
) -> HttpResponse:
    # Where a change is only to be confirmed no model need be suggested.
    models = [] if stops else offered.named()
    context = {"form": form, "policy": policy, "back_url": back, "models": models, "stops": stops}
    return render(request, "guardrails/policy_form.html", context, status=422 if form.is_bound else 200)


def _list_url(request: OrgRequest) -> str:
    return reverse("policies:policies", kwargs={"org": request.organization.slug})


def _losses(found: Policy) -> list[str]:
    bindings = found.bindings.select_related("group", "member", "api_key", "application")
    bound = sorted(str(binding.subject) for binding in bindings)
    governs = f"It governs {', '.join(bound[:8])}{f' and {len(bound) - 8} more' if len(bound) > 8 else ''}: from the next call on"
    return [
        f"{governs} its limits and rules no longer apply." if bound else "It governs nobody at present.",
        "Exceptions made to it go with it.",
        "The audit trail keeps what it said; what was spent stays in the ledger.",
    ]
