"""A person makes an organisation, and becomes its Super Admin."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from orgs.answers import show_refusal
from orgs.doors import SignedInRequest, signed_in_view
from orgs.errors import Refused
from orgs.forms import offered_time_zones
from orgs.organization_forms import NewOrganizationForm
from orgs.services.organizations import create_organization, may_create_organization


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_view
def new(request: SignedInRequest) -> HttpResponse:
    if not may_create_organization(request.user):
        raise PermissionDenied
    form = NewOrganizationForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            made = create_organization(owner=request.user, **form.cleaned_data)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"{made} is yours. Groups, people and budgets come next.")
            return redirect(made)
    context = {"form": form, "time_zones": offered_time_zones(), "form_action": request.path, "back_url": "/"}
    return render(request, "orgs/organization_new.html", context, status=422 if form.is_bound else 200)
