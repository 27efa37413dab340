"""Roles: the list with its matrix, and the organisation's own ones."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs.answers import alone, confirmed, go_to, show_refusal
from orgs.doors import OrgRequest, org_view
from orgs.errors import NotAllowed, Refused
from orgs.lookups import access_role_by_id
from orgs.models import Role
from orgs.permissions import Permission
from orgs.role_forms import RoleForm
from orgs.role_pages import matrix, may_change, role_rows
from orgs.services.roles import change_role, copy_role, create_role, delete_role

PAGE = ["GET", "HEAD", "POST"]


@require_safe
@org_view(Permission.MANAGE_MEMBERS, Permission.GRANT_ROLES)
def roles(request: OrgRequest) -> HttpResponse:
    rows = role_rows(request.actor)
    context = {"rows": rows, "matrix": matrix(rows), "may_create": request.actor.can_anywhere(Permission.GRANT_ROLES)}
    return render(request, "orgs/roles.html", context)


@require_http_methods(PAGE)
@org_view(Permission.GRANT_ROLES)
def new_role(request: OrgRequest) -> HttpResponse:
    form = RoleForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            made = create_role(
                typed["group"], name=typed["name"], description=typed["description"], permissions=form.named, by=request.actor
            )
        except (Refused, NotAllowed) as refused:
            _show(form, refused)
        else:
            messages.success(request, f"The role {made} was made. Nobody holds it yet: grant it on a member's page.")
            return redirect(list_url(request))
    return _form_page(request, form)


@require_http_methods(PAGE)
@org_view(Permission.GRANT_ROLES)
@alone
def edit(request: OrgRequest, role_id: int) -> HttpResponse:
    role = _changeable(request, role_id)
    form = RoleForm(request.POST if request.method == "POST" else None, actor=request.actor, role=role)
    if form.is_valid():
        typed = form.cleaned_data
        try:
            change_role(role, name=typed["name"], description=typed["description"], permissions=form.named, by=request.actor)
        except (Refused, NotAllowed) as refused:
            _show(form, refused)
        else:
            messages.success(request, "Saved. It counts for everyone who holds the role, from their next request on.")
            return redirect(list_url(request))
    return _form_page(request, form, role=role)


@require_POST
@org_view(Permission.GRANT_ROLES)
def copy(request: OrgRequest, role_id: int) -> HttpResponse:
    role = _changeable(request, role_id)
    try:
        made = copy_role(role, by=request.actor)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect(list_url(request))
    messages.success(request, f"The role {made} was made.")
    return redirect("roles:edit", org=request.organization.slug, role_id=made.pk)


@require_http_methods(PAGE)
@org_view(Permission.GRANT_ROLES)
def delete(request: OrgRequest, role_id: int) -> HttpResponse:
    role = _changeable(request, role_id)
    error = ""
    if request.method == "POST":
        error = confirmed(request, lambda: delete_role(role, by=request.actor), name=role.name)
        if not error:
            messages.success(request, f"The role {role.name} was deleted.")
            return go_to(request, list_url(request))
    context = {
        "form_action": request.path,
        "back_url": list_url(request),
        "confirm_title": "Delete this role?",
        "confirm_name": role.name,
        "confirm_losses": ["Nobody can be granted it any more.", "The audit trail keeps what it allowed."],
        "confirm_verb": "Delete role",
        "confirm_error": error,
    }
    return render(request, "components/confirm.html", context, status=422 if error else 200)


def list_url(request: OrgRequest) -> str:
    return reverse("roles:list", kwargs={"org": request.organization.slug})


def _show(form: RoleForm, refused: Refused | NotAllowed) -> None:
    """What one may not do oneself is said beside the permissions."""
    if isinstance(refused, NotAllowed):
        form.add_error("permissions", f"You may not do “{refused.permission.label.lower()}” at {refused.group} yourself.")
    else:
        show_refusal(form, refused)


def _changeable(request: OrgRequest, role_id: int) -> Role:
    """Raises Http404; NotAllowed for a role that allows what the actor may not do."""
    role = access_role_by_id(request.actor, role_id)
    if not may_change(role, request.actor):
        missing = sorted({Permission.GRANT_ROLES, *role.named} - request.actor.permissions_at(role.group))
        raise NotAllowed(missing[0], group=role.group)
    return role


def _form_page(request: OrgRequest, form: RoleForm, *, role: Role | None = None) -> HttpResponse:
    context = {"form": form, "role": role, "back_url": list_url(request)}
    return render(request, "orgs/role_form.html", context, status=422 if form.is_bound else 200)
