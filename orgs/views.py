from __future__ import annotations

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from orgs.doors import LAST_ORGANIZATION, SignedInRequest, signed_in_view
from orgs.selectors import home_organization, organizations_of
from orgs.services.organizations import create_personal_account


@require_safe
@signed_in_view
def home(request: SignedInRequest) -> HttpResponse:
    """After every sign-in. A person made by a command, not by the sign-up form, gets the personal account here."""
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
