"""Groups: the tree, one group, and what can be done with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gateway_project.lib.queries import id_in
from orgs import consequences, tree
from orgs.answers import alone, confirmed, go_to, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import NotAllowed, Refused
from orgs.group_fields import indented
from orgs.group_forms import KINDS, GroupForm, NewGroupForm
from orgs.lookups import access_group_by_id
from orgs.models import MAX_LEVEL, Group, RoleGrant
from orgs.permissions import Permission
from orgs.selectors import roles_at
from orgs.services.groups import archive_group, change_group, create_group, require_room, restore_group
from orgs.services.moves import move_group, refuse_move

PAGE = ["GET", "HEAD", "POST"]


@require_safe
@org_view(*tree.SEES_GROUPS)
def groups(request: OrgRequest) -> HttpResponse:
    archived = request.GET.get("archived") == "1"
    nodes = tree.tree_of(request.actor, archived=archived)
    context = {
        "nodes": nodes,
        "archived": archived,
        "may_add": any(node.may_add for node in nodes),
        "may_see_usage": request.actor.can_anywhere(Permission.VIEW_USAGE),
        "most_level": MAX_LEVEL,
    }
    return render(request, "orgs/groups.html", context)


@require_safe
@org_view(*tree.SEES_GROUPS)
def group(request: OrgRequest, group_id: int) -> HttpResponse:
    found, actor = access_group_by_id(request.actor, group_id, *tree.SEES_GROUPS), request.actor
    nodes = [node for node in tree.tree_of(actor, archived=True) if found.contains(node.group)]
    may_manage = actor.can(Permission.MANAGE_GROUPS, found)
    context = {
        "group": found,
        "node": nodes[0],
        "below": [node for node in nodes if node.group.parent_id == found.pk],
        "path": found.path(),
        "admins": roles_at(found),
        "applications": tree.applications_seen(actor).filter(group=found, archived_at=None),
        "may_manage": may_manage,
        "may_see_usage": actor.can(Permission.VIEW_USAGE, found),
        "may_add": tree.may_take(actor, found) and found.level < MAX_LEVEL,
        "may_make_applications": actor.can(Permission.MANAGE_APPLICATIONS, found) and found.closed_by is None,
    }
    return render(request, "orgs/group.html", context)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GROUPS)
def new(request: OrgRequest) -> HttpResponse:
    sent = request.POST if request.method == "POST" else None
    parent, why_not = _parent_asked(request) if sent is None else (None, "")
    form = NewGroupForm(sent, actor=request.actor, parent=parent)
    if form.is_valid():
        typed = dict(form.cleaned_data)
        try:
            made = create_group(typed.pop("parent"), by=request.actor, **typed)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"The group {made} was created.")
            return go_to(request, _list_url(request))
    return _form_page(request, form, title="New group", verb="Create group", back=_list_url(request), why_not=why_not)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GROUPS)
@alone
def edit(request: OrgRequest, group_id: int) -> HttpResponse:
    found = _managed(request, group_id)
    form = GroupForm(request.POST if request.method == "POST" else None, actor=request.actor, about=found)
    if form.is_valid():
        try:
            change_group(found, by=request.actor, **form.cleaned_data)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, "Saved.")
            return go_to(request, _url(request, found))
    return _form_page(request, form, title=f"Edit {found}", verb="Save", back=_url(request, found))


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GROUPS)
def move(request: OrgRequest, group_id: int) -> HttpResponse:
    """Asked first: the answer says what changes. It moves when that answer, for the same place, is sent back."""
    seen = tree.whole_tree(request.actor)
    found = _managed(request, group_id, among=seen)
    asked = request.POST if request.method == "POST" else request.GET
    open_groups = tree.open_to(request.actor, seen)
    place = next((group for group in open_groups if str(group.pk) == asked.get("to")), None)
    grants = consequences.grants_about(found, place) if place is not None else []
    error = _refusal(request, found, place, grants) if asked.get("to") else ""
    if request.method == "POST" and place is not None and not error and asked.get("seen") == str(place.pk):
        try:
            move_group(found, to=place, by=request.actor)
        except Refused as refused:
            error = refused.message
        else:
            messages.success(request, f"{found} lies in {place} now. Its next call counts there.")
            return go_to(request, _list_url(request))
    context = _move_context(request, found, place, grants, error) | _places(found, open_groups)
    if request.headers.get("hx-target", "").endswith("move-changes"):
        return render(request, "orgs/partials/_move_changes.html", context)
    return render(request, "orgs/group_move.html", context, status=422 if error and request.method == "POST" else 200)


@require_http_methods(PAGE)
@org_view(Permission.MANAGE_GROUPS)
def archive(request: OrgRequest, group_id: int) -> HttpResponse:
    """What stops is named, and the name is typed."""
    found, error = _managed(request, group_id), ""
    if request.method == "POST":
        error = confirmed(request, lambda: archive_group(found, by=request.actor), name=found.name)
        if not error:
            messages.success(request, f"{found} is archived. It can be brought back.")
            return go_to(request, _list_url(request))
    counts = tree.counts_of(request.organization).get(found.pk, tree.Counts())
    context = {
        "form_action": request.path,
        "back_url": _url(request, found),
        "confirm_title": f"Archive {found}?",
        "confirm_name": found.name,
        "confirm_losses": _losses(counts),
        "confirm_verb": "Archive group",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


@require_POST
@org_view(Permission.MANAGE_GROUPS)
def restore(request: OrgRequest, group_id: int) -> HttpResponse:
    found = _managed(request, group_id)
    tried(request, lambda: restore_group(found, by=request.actor), f"{found} is back: its keys work again.")
    return redirect(_url(request, found))


def _parent_asked(request: OrgRequest) -> tuple[Group | None, str]:
    """Below which group the address wants a new one; where none can be made there the one above it, and why.

    Raises Http404, NotAllowed.
    """
    if not (asked := request.GET.get("parent")):
        return None, ""
    found = access_group_by_id(request.actor, id_in(asked) or 0, *tree.SEES_GROUPS)
    try:
        require_room(found, by=request.actor)
    except Refused as refused:
        return found.parent, refused.message
    return found, ""


def _managed(request: OrgRequest, group_id: int, *, among: list[Group] | None = None) -> Group:
    """A group that is seen and not managed, such as one's own, answers 403. Raises Http404, NotAllowed."""
    found = next((group for group in among or () if group.pk == group_id), None)
    if found is None:
        found = access_group_by_id(request.actor, group_id, *tree.SEES_GROUPS)
    request.actor.require(Permission.MANAGE_GROUPS, found)
    return found


def _places(found: Group, open_groups: list[Group]) -> dict[str, Any]:
    offered = [group for group in open_groups if not found.contains(group)]
    top = min((group.level for group in offered), default=0)
    return {"places": [(group, indented(group, top)) for group in offered]}


def _refusal(request: OrgRequest, found: Group, place: Group | None, grants: list[RoleGrant]) -> str:
    """Empty, or why it cannot move there."""
    if place is None:
        return "Choose one of the groups of the list."
    try:
        refuse_move(found, to=place, by=request.actor, grants=grants)
    except Refused as refused:
        return refused.message
    except NotAllowed as missing:
        return str(missing)
    return ""


def _move_context(request: OrgRequest, found: Group, place: Group | None, grants: list[RoleGrant], error: str) -> dict[str, Any]:
    moves = place is not None and not error and place.pk != found.parent_id
    changes = consequences.of_move(found, place, by=request.actor, grants=grants) if place is not None and moves else []
    return {
        "group": found,
        "place": place,
        "moves": moves,
        "changes": [(kind, [one.text for one in changes if one.kind == kind]) for kind in ("now", "ended", "note")],
        "error": error,
        "form_action": request.path,
        "back_url": _url(request, found),
        "dialog_size": "modal-lg",
    }


def _losses(counts: tree.Counts) -> list[str]:
    keys = f"{counts.keys:,} API key{'' if counts.keys == 1 else 's'}"
    return [
        f"{keys} in it and below stop on their next call." if counts.keys else "No API key is in it or below.",
        "No group, member, key or application can be added in it or below.",
        "History, reports and the audit trail stay. Restoring it makes the keys work again.",
    ]


def _form_page(request: OrgRequest, form: GroupForm, *, title: str, verb: str, back: str, why_not: str = "") -> HttpResponse:
    kinds = tree.kinds_used(request.organization, KINDS)
    context = {"form": form, "title": title, "verb": verb, "form_action": request.path, "back_url": back, "kinds": kinds}
    context["why_not"] = why_not
    return render(request, "orgs/group_form.html", context, status=422 if form.is_bound else 200)


def _url(request: OrgRequest, found: Group) -> str:
    return reverse("groups:group", kwargs={"org": request.organization.slug, "group_id": found.pk})


def _list_url(request: OrgRequest) -> str:
    return reverse("groups:tree", kwargs={"org": request.organization.slug})
