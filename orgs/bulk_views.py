"""The same for several members: what would happen is shown first, then done for each by itself."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from orgs.doors import OrgRequest, org_view
from orgs.member_forms import ACTIONS, BulkForm, MoveForm
from orgs.people import Person, people_of, people_with_ids
from orgs.permissions import Permission
from orgs.services.bulk import Outcome, change_members

DONE = {"suspend": "suspended", "resume": "resumed", "move": "moved", "remove": "removed"}
# Of each person.
WORDS = {
    "suspend": "Keys and rights stop with the next call and request. It can be undone.",
    "resume": "Keys and rights come back.",
    "move": "Keys move along and spend from the new group's budgets from their next call on; those of an application that the"
    " new group may not name are disabled. Roles at the old group end.",
    "remove": "Their keys are deleted and stop with their next call, their roles end. What was used stays in the ledger.",
}


@require_POST
@org_view(Permission.MANAGE_MEMBERS)
def bulk(request: OrgRequest) -> HttpResponse:
    form = BulkForm(request.POST)
    people = people_of(people_with_ids(form.people), actor=request.actor)
    back = reverse("members:list", kwargs={"org": request.organization.slug})
    if not form.is_valid() or not people:
        messages.error(request, "Choose at least one member and what to do.")
        return redirect(back)
    action = form.cleaned_data["action"]
    confirmed = form.cleaned_data["confirmed"]
    move = MoveForm(request.POST if confirmed else None, actor=request.actor) if action == "move" else None
    if confirmed and (move is None or move.is_valid()):
        _tell(request, change_members(people, action=action, by=request.actor, group=move.group if move else None), action)
        return redirect(back)
    return _confirm(request, people, action=action, move=move, back=back)


def _confirm(request: OrgRequest, people: list[Person], *, action: str, move: MoveForm | None, back: str) -> HttpResponse:
    context = {
        "people": people,
        "action": action,
        "verb": ACTIONS[action],
        "words": WORDS[action],
        "move": move,
        "back_url": back,
        "form_action": request.path,
    }
    return render(request, "orgs/members_bulk.html", context, status=422 if move and move.is_bound else 200)


def _tell(request: OrgRequest, outcome: Outcome, action: str) -> None:
    if outcome.done:
        count = len(outcome.done)
        messages.success(request, f"{outcome.done[0] if count == 1 else f'{count} members'} {DONE[action]}.")
    for words in outcome.refused[:5]:
        messages.error(request, words)
    if len(outcome.refused) > 5:
        messages.error(request, f"And {len(outcome.refused) - 5} more were left as they are.")
