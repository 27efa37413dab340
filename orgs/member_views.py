"""Members: the list, one person, and what can be done with a membership."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs.actor import Actor
from orgs.answers import confirmed, go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.lookups import access_grant_by_id, access_member_by_id, access_person_by_id
from orgs.member_forms import ACTIONS, MoveForm
from orgs.member_pages import (
    grant_rows,
    history_rows,
    member_filters,
    members_wanted,
    membership_rows,
    page_urls,
    person_url,
)
from orgs.models import ApiKey, Membership, RoleGrant, User
from orgs.people import history_of, keys_of, people_of, people_page
from orgs.permissions import Permission
from orgs.role_forms import GrantForm
from orgs.selectors import roles_visible_to, tree_visible_to
from orgs.services.departures import Loss, leave_organization, move_member, remove_member, what_ends, what_moves, what_stops
from orgs.services.homes import stranded_keys
from orgs.services.members import grant_role, resume_member, revoke_role, suspend_member
from orgs.viewing import may_view_as

PAGE = ["GET", "HEAD", "POST"]
# Keys that a message names.
MOST_NAMED = 3


@require_safe
@org_view(Permission.MANAGE_MEMBERS)
def members(request: OrgRequest) -> HttpResponse:
    actor = request.actor
    groups = tree_visible_to(actor, Permission.MANAGE_MEMBERS)
    roles = list(roles_visible_to(actor).select_related(None))
    wanted = members_wanted(request.GET, groups=groups, roles=roles)
    page = people_page(actor, wanted, tree=groups)
    context = {
        "people": page.people,
        "filters": member_filters(wanted, groups=groups, roles=roles),
        "actions": ACTIONS.items(),
        **page_urls(request.GET, page),
    }
    return render(request, "orgs/members.html", context)


@require_safe
@org_view(Permission.MANAGE_MEMBERS)
def member(request: OrgRequest, person_id: int) -> HttpResponse:
    user, _ = access_person_by_id(request.actor, person_id, Permission.MANAGE_MEMBERS)
    [person] = people_of([user], actor=request.actor)
    context = {
        "person": person,
        "memberships": membership_rows(person, actor=request.actor),
        "grants": grant_rows(person, actor=request.actor),
        "keys": keys_of(user, actor=request.actor)[:50],
        "may_grant": request.actor.can_anywhere(Permission.GRANT_ROLES),
        "viewable": _viewable(request, user),
        "may_read_history": request.actor.can_anywhere(Permission.VIEW_AUDIT),
    }
    return render(request, "orgs/member.html", context)


@require_safe
@org_view(Permission.VIEW_AUDIT)
def history(request: OrgRequest, person_id: int) -> HttpResponse:
    """For the person's page, from the audit trail."""
    user, memberships = access_person_by_id(request.actor, person_id, Permission.MANAGE_MEMBERS)
    context = {"rows": history_rows(history_of(user, memberships, actor=request.actor))}
    return render(request, "orgs/partials/_member_history.html", context)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_MEMBERS)
def suspend(request: OrgRequest, member_id: int) -> HttpResponse:
    """What stops is named first."""
    found = _membership(request, member_id)
    if request.method == "POST":
        done = f"{found.user} is suspended at {found.group} and below. Keys there stop with their next call."
        tried(request, lambda: suspend_member(found, by=request.actor), done)
        return go_to(request, _next(request, found, _person_url(request, found)))
    context = {
        "form_action": request.path,
        "back_url": _person_url(request, found),
        "confirm_title": f"Suspend {found.user} at {found.group}?",
        "confirm_losses": stops(found),
        "confirm_hint": "Nothing is deleted: “Resume” brings all of it back.",
        "confirm_verb": "Suspend member",
    }
    return render(request, "components/confirm.html", context)


@require_POST
@org_view(Permission.MANAGE_MEMBERS)
def resume(request: OrgRequest, member_id: int) -> HttpResponse:
    found = _membership(request, member_id)
    done = f"{found.user} is back at {found.group}, with its keys and roles."
    tried(request, lambda: resume_member(found, by=request.actor), done)
    return redirect(_person_url(request, found))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_MEMBERS)
def move(request: OrgRequest, member_id: int) -> HttpResponse:
    found = _membership(request, member_id)
    form = MoveForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        try:
            move_member(found, group=form.group, keep_roles=form.cleaned_data["keep_roles"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"{found.user} is in {form.group} now.")
            return go_to(request, _next(request, found, _person_url(request, found)))
    going = what_moves(found, group=None)
    context = {
        "form": form,
        "membership": found,
        "keys": going.moved,
        "grants": going.roles,
        "form_action": request.path,
        "back_url": _person_url(request, found),
    }
    return render(request, "orgs/member_move.html", context, status=422 if form.is_bound else 200)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_MEMBERS)
def remove(request: OrgRequest, member_id: int) -> HttpResponse:
    """What ends with it is named, and the address is typed."""
    found = _membership(request, member_id)
    error = ""
    if request.method == "POST":
        error = _removed(found, request)
        if not error:
            messages.success(request, f"{found.user} was removed from {found.group}.")
            everybody = reverse("members:list", kwargs={"org": request.organization.slug})
            return go_to(request, _next(request, found, everybody))
    context = {
        "form_action": request.path,
        "back_url": _person_url(request, found),
        "confirm_title": f"Remove {found.user} from {found.group}?",
        "confirm_name": found.user.email,
        "confirm_losses": losses(found),
        "confirm_hint": "" if found.suspended_at else "Suspending stops keys and rights too, and can be undone.",
        "confirm_verb": "Remove member",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


@require_http_methods(PAGE)
@org_view(Permission.GRANT_ROLES)
def grant(request: OrgRequest, person_id: int) -> HttpResponse:
    user, _ = access_person_by_id(request.actor, person_id, Permission.MANAGE_MEMBERS)
    form = GrantForm(request.POST if request.method == "POST" else None, actor=request.actor, user=user)
    back = person_url(user.pk, org=request.organization.slug)
    if form.is_valid():
        try:
            made = grant_role(user, role=form.role, group=form.cleaned_data["group"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"{user} is {made.label} of {made.group} now.")
            return go_to(request, back)
    context = {"form": form, "person": user, "form_action": request.path, "back_url": back}
    return render(request, "orgs/member_grant.html", context, status=422 if form.is_bound else 200)


@require_http_methods(PAGE)
@org_view(Permission.GRANT_ROLES)
def end_grant(request: OrgRequest, grant_id: int) -> HttpResponse:
    """What stops with it is named first."""
    found = access_grant_by_id(request.actor, grant_id)
    if request.method == "POST":
        return _end_grant(request, found)
    stopping = stranded_keys(found.user, below=found.group, without=found)
    context = {
        "form_action": request.path,
        "back_url": _back_from(request, found),
        "confirm_title": f"End {found.user}’s role as {found.label} of {found.group}?",
        "confirm_losses": [
            f"What {found.label} allows at {found.group} and below ends with the next request.",
            _stopped(stopping) or "No API key stops.",
        ],
        "confirm_verb": "End role",
    }
    return render(request, "components/confirm.html", context)


def _end_grant(request: OrgRequest, found: RoleGrant) -> HttpResponse:
    try:
        stopped = revoke_role(found, by=request.actor)
    except Refused as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, f"{found.user} is no longer {found.label} of {found.group}. {_stopped(stopped)}".strip())
    return go_to(request, _back_from(request, found))


def _stopped(keys: list[ApiKey]) -> str:
    """Empty, or one sentence."""
    if not keys:
        return ""
    names = ", ".join(f"“{key.name}” in {key.group}" for key in keys[:MOST_NAMED])
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return f"What only this role let be there is disabled: the API key{'' if len(keys) == 1 else 's'} {names}{more}."


@require_http_methods(PAGE)
@org_view(Permission.VIEW_OWN)
def leave(request: OrgRequest) -> HttpResponse:
    """One's own way out."""
    error = ""
    if request.method == "POST":
        error = confirmed(request, lambda: leave_organization(request.actor), name=request.organization.name)
        if not error:
            messages.success(request, f"You have left {request.organization}.")
            return go_to(request, "/")
    loss = [words for membership in request.actor.memberships for words in losses(membership)]
    context = {
        "form_action": request.path,
        "back_url": request.organization.get_absolute_url(),
        "confirm_title": f"Leave {request.organization}?",
        "confirm_name": request.organization.name,
        "confirm_losses": [*dict.fromkeys(loss)],
        "confirm_hint": "Coming back takes a new invitation.",
        "confirm_verb": "Leave organisation",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


def losses(membership: Membership) -> list[str]:
    """What ends with a membership, in sentences."""
    loss = what_ends(membership)
    return [
        f"API keys are deleted and stop with their next call; open streams end: {_names(loss)}."
        if loss.keys
        else "No API key is lost.",
        *([f"Roles end: {_roles(loss)}."] if loss.roles else []),
        f"{membership.group.words()} and what lies below can no longer be seen.",
        "What was used stays in the ledger, under the path of its time.",
    ]


def stops(membership: Membership) -> list[str]:
    """What a suspension stops, in sentences."""
    loss = what_stops(membership)
    return [
        f"API keys stop with their next call; open streams end: {_names(loss)}." if loss.keys else "No API key stops.",
        *([f"Roles count no longer: {_roles(loss)}."] if loss.roles else []),
        f"{membership.group.words()} and what lies below can no longer be seen.",
    ]


def _names(loss: Loss) -> str:
    return ", ".join(key.name for key in loss.keys[:8]) + (f" and {len(loss.keys) - 8} more" if len(loss.keys) > 8 else "")


def _roles(loss: Loss) -> str:
    return ", ".join(f"{grant.label} of {grant.group}" for grant in loss.roles)


def _viewable(request: OrgRequest, user: User) -> Membership | None:
    """By which one can look at the console as this person does; None where one may not, or looks as somebody already."""
    other = Actor.load(user, organization=request.organization)
    return other.memberships[0] if request.viewer is None and may_view_as(request.actor, other) else None


def _membership(request: OrgRequest, member_id: int) -> Membership:
    """Raises Http404."""
    return access_member_by_id(request.actor, member_id, Permission.MANAGE_MEMBERS)


def _person_url(request: OrgRequest, membership: Membership) -> str:
    return person_url(membership.user_id, org=request.organization.slug)


def _next(request: OrgRequest, found: Membership, page: str) -> str:
    """Whoever has changed a membership of its own may not see the page any more, nor the organisation."""
    return "/" if found.user_id == request.user.pk else page


def _back_from(request: OrgRequest, found: RoleGrant) -> str:
    """Whoever ended a role of its own may not see the page any more."""
    own = found.user_id == request.user.pk
    return request.organization.get_absolute_url() if own else person_url(found.user_id, org=request.organization.slug)


def _removed(found: Membership, request: OrgRequest) -> str:
    """Empty, or why it is not removed."""
    if request.POST.get("confirm", "").strip().lower() != found.user.email.lower():
        return "The address is not the same."
    try:
        remove_member(found, by=request.actor)
    except Refused as refused:
        return refused.message
    return ""
