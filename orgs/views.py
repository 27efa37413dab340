from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_http_methods, require_safe

from orgs import approvals
from orgs.adapters import INVITATION
from orgs.answers import alone, show_refusal
from orgs.attributed import attributed
from orgs.doors import LAST_ORGANIZATION, OrgRequest, SignedInRequest, org_view, signed_in_view
from orgs.errors import Refused
from orgs.forms import SettingsForm, offered_time_zones, sections_of
from orgs.permissions import Permission
from orgs.second_factor import people_without_second_factor
from orgs.selectors import home_organization, organizations_of
from orgs.services.organizations import change_settings, create_personal_account

# What the approval of new models counted from when this session last saved the settings, by organisation.
SINCE = "approval_since:{}"


@require_safe
@signed_in_view
def home(request: SignedInRequest) -> HttpResponse:
    """After every sign-in. A person made by a command, not by the sign-up form, gets the personal account here."""
    if token := request.session.pop(INVITATION, ""):
        return redirect("accept", token=token)
    last = request.session.get(LAST_ORGANIZATION)
    return redirect(home_organization(request.user, last_slug=last) or create_personal_account(request.user))


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_view
def switch(request: SignedInRequest, org: str) -> HttpResponse:
    organization = organizations_of(request.user).filter(slug=org).first()
    if organization is None:
        raise Http404("no such organisation")
    request.session[LAST_ORGANIZATION] = organization.slug
    return redirect(organization)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(Permission.MANAGE_SETTINGS)
@alone
def settings(request: OrgRequest) -> HttpResponse:
    """Of the organisation as a whole: who manages only a part of the tree sees what is missing."""
    request.actor.require_everywhere(Permission.MANAGE_SETTINGS)
    form, stopped = _settings_form(request, request.POST if request.method == "POST" else None), None
    if form.is_valid() and not (stopped := _stopped(request, form)):
        try:
            change_settings(request.organization, by=request.actor, **form.settings)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            # Whoever switches the approval of models off and on again finds its date still there.
            request.session[SINCE.format(request.organization.slug)] = form.chosen_since.isoformat() if form.chosen_since else ""
            messages.success(request, "The settings are saved. They count from the next call on.")
            return redirect(request.path)
    context = {
        "form": form,
        "stopped": stopped,
        "sections": sections_of(request.organization),
        "time_zones": offered_time_zones(),
        "attributed": attributed(request.organization),
        "without_factor": people_without_second_factor(request.organization).count(),
    }
    return render(request, "orgs/settings.html", context, status=422 if form.is_bound else 200)


@require_safe
@org_view(Permission.MANAGE_SETTINGS)
def approval_reach(request: OrgRequest) -> HttpResponse:
    """Beside the switch on the settings page: what the day that is chosen there would stop."""
    request.actor.require_everywhere(Permission.MANAGE_SETTINGS)
    form = _settings_form(request, request.GET)
    form.is_valid()  # all but the day and the time zone is missing
    reach = approvals.reach(request.actor, since=form.chosen_since)
    context = {"reach": reach, "already": request.organization.approval_since == reach.since}
    return render(request, "orgs/partials/_approval_reach.html", context)


def _stopped(request: OrgRequest, form: SettingsForm) -> approvals.Reach | None:
    """What it stops that is in use, and has not been asked about; of a valid form."""
    return approvals.newly_stopped(request.actor, since=form.settings["approval_since"], sent=request.POST)


def _settings_form(request: OrgRequest, sent: QueryDict | None) -> SettingsForm:
    since = parse_datetime(request.session.get(SINCE.format(request.organization.slug), ""))
    return SettingsForm(sent, organization=request.organization, since=since)
