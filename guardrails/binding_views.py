"""What a policy governs, and exceptions to it: each a dialog, and taken back where that is possible."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gateway_project.lib.money import display_usd
from gateway_project.lib.queries import id_in
from guardrails import displaced, stopping
from guardrails.limit_rows import CHOICES
from guardrails.lookups import access_binding_by_id, access_override_by_id
from guardrails.models import Binding, Limit, Override, Policy
from guardrails.policy_forms import OverrideForm
from guardrails.policy_pages import bind_confirmation, bind_values, limit_words, policy_url, taken_off, with_undo
from guardrails.policy_selectors import bindings_visible_to, policies_visible_to
from guardrails.policy_views import PAGE, visible
from guardrails.services import bindings, overrides
from guardrails.subjects import Finds, Subject, described, find, search, token_of
from orgs.answers import go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GUARDRAILS)
def bind(request: OrgRequest, policy_id: int) -> HttpResponse:
    """What would stop calls at once, or take defaults off, is said first, and bound once that is confirmed for this subject."""
    found, error, subject = visible(request, policy_id, whole=request.method == "POST"), "", None
    stops, lost = "", list[Binding]()
    reach = request.POST.get("reach", Binding.Reach.SELF)
    if request.method == "POST":
        try:
            subject = _chosen(request)
            stops = stopping.stops(found, subject=subject, reach=reach, now=timezone.now())
            lost = _lost(request, found, subject, reach)
            if not (stops or lost) or request.POST.get("confirm") == bind_confirmation(subject, reach):
                bindings.bind(found, subject=subject, reach=reach, by=request.actor)
                _tell(request, f"{found} governs {subject} from the next call on.", _lost_words(lost, subject, reach), stops)
                return _done(request, found)
        except Refused as refused:
            error = refused.message
    asked = (
        {} if error or subject is None else {"stops": stops, "lost": _lost_words(lost, subject, reach), "off": taken_off(lost)}
    )
    context = _bind_context(request, found, subject, reach) | {"error": error} | asked
    return render(request, "guardrails/bind.html", context, status=422 if request.method == "POST" else 200)


def _tell(request: OrgRequest, bound: str, *warnings: str) -> None:
    tell = messages.warning if any(warnings) else messages.success
    tell(request, " ".join(filter(None, [bound, *warnings])))


def _lost(request: OrgRequest, policy: Policy, subject: Subject, reach: str) -> list[Binding]:
    """The defaults that it takes the place of, as far as the person sees them; before it is bound."""
    found = displaced.displaced_by(policy, subject=subject, reach=reach, organization=request.organization)
    seen = bindings_visible_to(request.actor).filter(pk__in=[one.pk for one in found]).values_list("pk", flat=True)
    ids = set(seen) if found else set()
    return [one for one in found if one.pk in ids]


def _lost_words(lost: list[Binding], subject: Subject, reach: str) -> str:
    told = displaced.words(lost, whom=displaced.whom_words(str(subject), reach=reach))
    return f"{told}." if told else ""


def _bind_context(request: OrgRequest, policy: Policy, subject: Subject | None, reach: str) -> dict[str, object]:
    """`subject`: chosen already, and found by a search that this page knows nothing of."""
    return {
        "policy": policy,
        "form_action": request.path,
        "back_url": policy_url(policy, org=request.organization.slug),
        "finds": search(request.actor, "") if subject is None else Finds([described(subject)], []),
        "chosen": "" if subject is None else token_of(subject),
        "confirmation": "" if subject is None else bind_confirmation(subject, reach),
        "reaches": [("self", "what is chosen above, as a whole"), *Binding.Reach.choices[1:]],
        "reach": reach,
    }


@require_safe
@org_view(Permission.MANAGE_GUARDRAILS)
def subjects(request: OrgRequest, policy_id: int) -> HttpResponse:
    """What the search of the dialog finds."""
    words = " ".join(request.GET.get("q", "").split())[:80]
    context = {
        "policy": visible(request, policy_id, whole=False),
        "finds": search(request.actor, words if words.isprintable() else ""),
    }
    return render(request, "guardrails/partials/_subjects.html", context)


@require_POST
@org_view(Permission.MANAGE_GUARDRAILS)
def unbind(request: OrgRequest, binding_id: int) -> HttpResponse:
    binding = access_binding_by_id(request.actor, binding_id)
    policy = visible(request, binding.policy_id)
    org, values = request.organization.slug, bind_values(binding)
    try:
        bindings.unbind(binding, by=request.actor)
    except Refused as refused:
        messages.error(request, refused.message)
        return _done(request, policy)
    done = f"{policy} no longer governs {binding.subject}."
    if not policies_visible_to(request.actor).filter(pk=policy.pk).exists():  # it governs others still, out of sight
        messages.success(request, done)
        return go_to(request, reverse("policies:policies", kwargs={"org": org}))
    again = reverse("policies:bind", kwargs={"org": org, "policy_id": policy.pk})
    # Where only its maker, or nobody, may bind it again, nothing is offered that would be refused.
    undone = bindings.may_bind(policy, subject=binding.subject, reach=binding.reach, by=request.actor)
    messages.success(request, with_undo(done, url=again, **values) if undone else done)
    return _done(request, policy)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GUARDRAILS)
def override(request: OrgRequest, policy_id: int) -> HttpResponse:
    """So much more for one subject, until a day."""
    found, limit, subject = _of_limit(request, policy_id)
    form = OverrideForm(request.POST if request.method == "POST" else None, limit=limit)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            overrides.add_override(
                limit, subject=subject, amount=typed["amount"], until=form.ends_at, reason=typed["reason"], by=request.actor
            )
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"{limit_words(limit.kind, limit.window, typed['amount'])} more for {subject}.")
            return _done(request, found)
    context = _limit_context(request, found, limit, subject) | {"form": form, "money": limit.kind == Limit.Kind.BUDGET}
    return render(request, "guardrails/override.html", context, status=422 if form.is_bound else 200)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GUARDRAILS)
def reset(request: OrgRequest, policy_id: int) -> HttpResponse:
    found, limit, subject = _of_limit(request, policy_id)
    error = ""
    if request.method == "POST":
        try:
            made = overrides.reset_usage(limit, subject=subject, reason=request.POST.get("reason", ""), by=request.actor)
            messages.success(request, f"{subject} starts anew: {display_usd(made.amount)} no longer counts in this budget.")
            return _done(request, found)
        except Refused as refused:
            error = refused.message
    context = _limit_context(request, found, limit, subject) | {"error": error}
    return render(request, "guardrails/reset.html", context, status=422 if error else 200)


@require_POST
@org_view(Permission.MANAGE_GUARDRAILS)
def end(request: OrgRequest, override_id: int) -> HttpResponse:
    found = _override(request, override_id)
    try:
        overrides.end_override(found, by=request.actor)
    except Refused as refused:
        messages.error(request, refused.message)
    else:
        again = reverse("policies:resume", kwargs={"org": request.organization.slug, "override_id": found.pk})
        messages.success(request, with_undo(f"The exception for {found.subject} was ended.", url=again))
    return _done(request, found.limit.policy)


@require_POST
@org_view(Permission.MANAGE_GUARDRAILS)
def resume(request: OrgRequest, override_id: int) -> HttpResponse:
    found = _override(request, override_id)
    tried(
        request, lambda: overrides.resume_override(found, by=request.actor), f"The exception for {found.subject} applies again."
    )
    return _done(request, found.limit.policy)


def _override(request: OrgRequest, override_id: int) -> Override:
    override = access_override_by_id(request.actor, override_id)
    visible(request, override.limit.policy_id)
    return override


def _chosen(request: OrgRequest) -> Subject:
    """Raises Refused."""
    if request.POST.get("reach", Binding.Reach.SELF) not in Binding.Reach.values:
        raise Refused("Choose whom it applies to.", field="reach")
    subject = find(request.actor, request.POST.get("subject", ""))
    if subject is None:
        raise Refused("Choose a group, a member, a key or an application of yours.", field="subject")
    return subject


def _of_limit(request: OrgRequest, policy_id: int) -> tuple[Policy, Limit, Subject]:
    """Which limit, and for whom, stand in the address. Raises Http404."""
    policy = visible(request, policy_id)
    wanted = id_in(request.GET.get("limit"))
    limit = next((limit for limit in policy.limits.all() if limit.pk == wanted), None)
    subject = find(request.actor, request.GET.get("subject", ""))
    if limit is None or subject is None:
        raise Http404("no such limit")
    return policy, limit, subject


def _limit_context(request: OrgRequest, policy: Policy, limit: Limit, subject: Subject) -> dict[str, object]:
    return {
        "policy": policy,
        "limit": limit,
        "limit_label": CHOICES[f"{limit.kind} {limit.window}"],
        "limit_words": limit_words(limit.kind, limit.window, limit.value),
        "subject": subject,
        "form_action": request.get_full_path(),
        "back_url": policy_url(policy, org=request.organization.slug),
        "now": timezone.now(),
    }


def _done(request: OrgRequest, policy: Policy) -> HttpResponse:
    """Back to the policy, from a dialog or from a page."""
    url = policy_url(policy, org=policy.organization.slug)
    return go_to(request, url)
