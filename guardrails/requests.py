"""Requests: a member asks for what the rules do not let pass, an admin above decides, and the answer counts on the next call.

What an approval means depends on the kind. A model's is the row itself: from its node down, admission takes the model
for approved. A kind that grants something else (more budget, say) makes it in `_GRANT` and takes it back in `_REVOKE`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import reduce
from operator import or_

from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils import timezone

from gateway_project.lib.rows import sole
from guardrails import new_models
from guardrails.models import Request
from guardrails.new_models import NewModel
from orgs.actor import LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import NotAllowed, Refused
from orgs.models import MAX_LEVEL, Group
from orgs.permissions import Permission
from orgs.selectors import key_homes, within
from orgs.services.changes import changing, fresh_group, refuse_archived

OPEN, APPROVED, DECLINED, WITHDRAWN = (
    Request.Status.OPEN,
    Request.Status.APPROVED,
    Request.Status.DECLINED,
    Request.Status.WITHDRAWN,
)
WORDS = 500
SHOWN = 100

# What happens besides the row's own change, by kind.
_GRANT: dict[str, Callable[[Request, Actor], None]] = {}
_REVOKE: dict[str, Callable[[Request, Actor], None]] = {}


# --- what is there -----------------------------------------------------------------------------
def requests_visible_to(actor: Actor) -> QuerySet[Request]:
    """One's own, and those of the groups whose guardrails one manages; newest first."""
    seen = _decided_by(actor) | Q(requested_by=actor.user)
    found = Request.objects.filter(seen, organization=actor.organization)
    return found.select_related("requested_by", "decided_by", LINEAGE).order_by("-created_at", "-pk")


def waiting_for(actor: Actor) -> QuerySet[Request]:
    """Open ones that the actor may decide."""
    found = Request.objects.filter(_decided_by(actor), organization=actor.organization, status=OPEN)
    return found.select_related("requested_by", LINEAGE).order_by("created_at", "pk")


def _decided_by(actor: Actor) -> Q:
    """Requests for nodes whose guardrails the actor manages."""
    here = [grant.group for grant in actor.grants if actor.can(Permission.MANAGE_GUARDRAILS, grant.group)]
    above = [grant.group_id for grant in actor.grants if actor.can_below(Permission.MANAGE_GUARDRAILS, grant.group)]
    below = (Q(**{"__".join(["group", *["parent"] * up, "in"]): above}) for up in range(1, MAX_LEVEL + 1))
    return reduce(or_, below, within(here, field="group"))


def access_request_by_id(actor: Actor, request_id: int) -> Request:
    """Raises Http404: absent, another organisation's and out of reach are the same."""
    found = sole(requests_visible_to(actor).filter(pk=request_id))
    if found is None:
        raise Http404("no such request")
    return found


def models_to_approve(actor: Actor, *, naming: str = "") -> list[NewModel]:
    """New since the organisation's date: nobody may call them unless approved for a node of their path.

    Of the thousands that can be called by a provider's own name only the one that is asked for is among them.
    """
    since = actor.organization.approval_since
    if since is None:
        return []
    found = new_models.since(since)
    other = None if any(one.name == naming for one in found) else new_models.named(naming, since=since)
    return [*found, other] if other else found


def approvals_of(actor: Actor) -> dict[str, list[Request]]:
    """By model: what counts on the actor's own paths, and what stands where it manages guardrails."""
    found: dict[str, list[Request]] = {}
    own = {node for membership in actor.memberships for node in membership.group.lineage()}
    seen = _decided_by(actor) | Q(group__in=own)
    approved = Request.objects.filter(seen, organization=actor.organization, kind=Request.Kind.MODEL, status=APPROVED)
    for request in approved.select_related("decided_by", LINEAGE).order_by("group__level", "pk"):
        found.setdefault(request.model, []).append(request)
    return found


def approved_everywhere(model: str, approvals: Mapping[str, list[Request]]) -> bool:
    """For the root, so that nobody needs to ask any more."""
    return any(request.group.level == 0 for request in approvals.get(model, []))


def approved_at(model: str, homes: Collection[Group], approvals: Mapping[str, list[Request]]) -> bool:
    """For each of these groups, or above it; load their paths. Of no group it is not."""
    nodes = {request.group_id for request in approvals.get(model, [])}
    return bool(homes) and all(nodes.intersection(home.lineage()) for home in homes)


def why_not_to_ask(model: str, *, models: Iterable[NewModel], approvals: Mapping[str, list[Request]]) -> str:
    """In words, for people; empty where the model waits for an approval."""
    if approved_everywhere(model, approvals):
        return f"{model} is approved for the whole organisation."
    return "" if model in {one.name for one in models} else f"{model} needs no approval here."


def nodes_to_approve_for(request: Request, *, actor: Actor) -> list[Group]:
    """The request's own group and those above it whose guardrails the actor manages, the nearest first."""
    return [group for group in reversed(request.group.path()) if actor.can(Permission.MANAGE_GUARDRAILS, group)]


# --- asking ------------------------------------------------------------------------------------
def request_model(model: str, *, group: Group, by: Actor, reason: str = "") -> Request:
    """Asks that calls below this group may go to the model. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = fresh_group(group)
        if not key_homes(by).filter(pk=fresh.pk).exists():
            raise NotAllowed(Permission.MANAGE_OWN_KEYS, group=fresh)
        request = _asked(model, fresh, by=by, reason=reason)
        _write(request, "request.made", by=by)
    return request


def approve_model(model: str, *, group: Group, by: Actor, answer: str = "") -> Request:
    """Without anyone having asked. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = fresh_group(group)
        by.require(Permission.MANAGE_GUARDRAILS, fresh)
        open_here = Request.objects.filter(organization=by.organization, group=fresh, model=model, status=OPEN).first()
        request = open_here or _asked(model, fresh, by=by, reason="")
        _approve_all(request, by=by, answer=answer)
    return request


def _asked(model: str, group: Group, *, by: Actor, reason: str) -> Request:
    refuse_archived(group)
    if model not in {one.name for one in models_to_approve(by, naming=model)}:
        raise Refused(f"{model[:80]} needs no approval here.", field="model")
    standing = Request.objects.filter(organization=by.organization, model=model, group__in=group.lineage())
    found = standing.filter(Q(status=APPROVED) | Q(status=OPEN, group=group)).select_related("group").first()
    if found is not None:
        words = "is approved for" if found.status == APPROVED else "has been asked for already, for"
        raise Refused(f"{model} {words} {found.group}.", field="model")
    words = _words(reason, field="reason")
    made = {"group": group, "model": model, "reason": words, "requested_by": by.user}
    return Request.objects.create(organization=by.organization, kind=Request.Kind.MODEL, **made)


# --- deciding ----------------------------------------------------------------------------------
def approve(request: Request, *, by: Actor, group: Group | None = None, answer: str = "") -> Request:
    """For the request's own group, or a wider one above it. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(request, by=by, status=OPEN)
        node = fresh_group(group or fresh.group)
        if node.pk not in fresh.group.lineage():
            raise Refused(f"{node} does not lie above {fresh.group}.", field="group")
        by.require(Permission.MANAGE_GUARDRAILS, node)
        if node != fresh.group:
            fresh = _widened(fresh, node)
        _approve_all(fresh, by=by, answer=answer)
    return fresh


def decline(request: Request, *, by: Actor, answer: str) -> Request:
    """With a word to whoever asked. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(request, by=by, status=OPEN)
        by.require(Permission.MANAGE_GUARDRAILS, fresh.group)
        if not answer.strip():
            raise Refused("Say why, so that whoever asked knows what to do.", field="answer")
        _decide(fresh, DECLINED, "request.declined", by=by, answer=answer)
    return fresh


def withdraw(request: Request, *, by: Actor) -> Request:
    """By whoever asked, as long as nobody has decided. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(request, by=by, status=OPEN)
        if fresh.requested_by_id != by.user.pk:
            raise NotAllowed(Permission.MANAGE_GUARDRAILS, group=fresh.group)
        _decide(fresh, WITHDRAWN, "request.withdrawn", by=by, answer="")
    return fresh


def revoke(request: Request, *, by: Actor, answer: str = "") -> list[Request]:
    """Ends an approval and those of the same model below it, from the next call on. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(request, by=by, status=APPROVED)
        by.require(Permission.MANAGE_GUARDRAILS, fresh.group)
        ended = list(_same(fresh, status=APPROVED).select_related(LINEAGE))
        for one in ended:
            _decide(one, DECLINED, "request.revoked", by=by, answer=answer or "The approval was ended.")
            _REVOKE.get(one.kind, _nothing)(one, by)
    return ended


def _approve_all(request: Request, *, by: Actor, answer: str) -> None:
    """This one, and what else waits for the same below it: it may be called there now."""
    for one in {**{found.pk: found for found in _same(request, status=OPEN)}, request.pk: request}.values():
        _decide(one, APPROVED, "request.approved", by=by, answer=answer)
        _GRANT.get(one.kind, _nothing)(one, by)


def _widened(request: Request, node: Group) -> Request:
    """The request for that node: this one, moved up, or the one that waits there already, which this one lies below."""
    standing = Request.objects.filter(organization=request.organization_id, group=node, model=request.model)
    found = {one.status: one for one in standing.filter(status__in=(OPEN, APPROVED))}
    if found:
        return found.get(OPEN, request)
    request.group = node
    request.save(update_fields=["group"])
    return request


def _same(request: Request, *, status: str) -> QuerySet[Request]:
    """Of the same kind and model, at the request's node and below."""
    below = within([request.group], field="group")
    return Request.objects.filter(
        below, organization=request.organization_id, kind=request.kind, model=request.model, status=status
    )


def _decide(request: Request, status: str, action: str, *, by: Actor, answer: str) -> None:
    before = request.status
    request.status, request.decided_by, request.decided_at = status, by.user, timezone.now()
    request.answer = _words(answer, field="answer")
    request.save(update_fields=["status", "decided_by", "decided_at", "answer"])
    _write(request, action, by=by, before=before)


def _write(request: Request, action: str, *, by: Actor, before: str = "") -> None:
    facts: dict[str, Value] = {"model": request.model, "group": request.group_id, "status": request.status}
    words: dict[str, Value] = {"reason": request.reason} if action == "request.made" else {"answer": request.answer}
    audit(action, by=by, target=request, before={"status": before} if before else {}, after={**facts, **words})


def _fresh(request: Request, *, by: Actor, status: str) -> Request:
    """As it is now, under the lock. Raises Refused where somebody was faster."""
    fresh = Request.objects.filter(organization=by.organization).select_related(LINEAGE).get(pk=request.pk)
    if fresh.status != status:
        raise Refused(f"This request is {fresh.get_status_display().lower()} by now.")
    return fresh


def _words(text: str, *, field: str) -> str:
    text = text.strip()
    if len(text) > WORDS:
        raise Refused(f"At most {WORDS} characters.", field=field)
    return text


def _nothing(request: Request, by: Actor) -> None:
    """Kinds whose row says it all."""
