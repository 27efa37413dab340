"""A person's own pages: who they are, how they sign in, where they are signed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from allauth.account import views as allauth_views
from allauth.mfa.recovery_codes import views as recovery_codes
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orgs.account_forms import ProfileForm
from orgs.account_selectors import places_of, recent_moments, security_of
from orgs.doors import SignedInRequest, signed_in_view
from orgs.errors import Refused
from orgs.origin import origin_of
from orgs.services.people import rename_person
from orgs.services.sessions import end_session, end_sessions, sessions_of
from orgs.sign_in_events import record
from orgs.sso.required import keeps_address


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@signed_in_view
def account(request: SignedInRequest) -> HttpResponse:
    form = ProfileForm(request.POST if request.method == "POST" else None, initial={"name": request.user.name})
    if form.is_valid():
        try:
            rename_person(request.user, name=form.cleaned_data["name"], origin=origin_of(request))
        except Refused as refused:
            form.add_error("name", refused.message)
        else:
            messages.success(request, "Your name is saved.")
            return redirect("account:profile")
    context = {"form": form, "security": security_of(request.user), "moments": recent_moments(request.user)}
    return render(request, "account/profile.html", context, status=422 if form.is_bound else 200)


@require_safe
@never_cache
@signed_in_view
def sessions(request: SignedInRequest) -> HttpResponse:
    places = places_of(request.user, current=request.session.session_key)
    return render(request, "account/sessions.html", {"places": places, "others": sum(not place.is_current for place in places)})


@require_POST
@signed_in_view
def end_one(request: SignedInRequest, session_id: int) -> HttpResponse:
    """The one in use ends by signing out, which also forgets it in this browser."""
    session = sessions_of(request.user).filter(pk=session_id).first()
    if session is None:
        raise Http404("no such session")
    if session.session_key == request.session.session_key:
        return redirect("account_logout")
    end_session(session, by=request.user, origin=origin_of(request))
    messages.success(request, "That session is ended: it is signed out at its next page.")
    return redirect("usersessions_list")


@require_POST
@signed_in_view
def end_others(request: SignedInRequest) -> HttpResponse:
    ended = end_sessions(request.user, but=request.session.session_key, origin=origin_of(request))
    messages.success(request, f"Signed out everywhere else ({ended}).")
    return redirect("usersessions_list")


@never_cache
@signed_in_view
def addresses(request: SignedInRequest) -> HttpResponse:
    if "action_primary" in request.POST and keeps_address(request.user):
        messages.error(request, "Your organisation's single sign-on knows you by your main address: it stays the main one.")
        return redirect("account_email")
    return cast(HttpResponse, allauth_views.email(request))


@signed_in_view
def view_recovery_codes(request: SignedInRequest) -> HttpResponse:
    return _showing_codes(request, recovery_codes.view_recovery_codes)


@signed_in_view
def download_recovery_codes(request: SignedInRequest) -> HttpResponse:
    return _showing_codes(request, recovery_codes.download_recovery_codes)


def _showing_codes(request: SignedInRequest, view: Callable[..., HttpResponse]) -> HttpResponse:
    """allauth asks for the password or a factor first, by an exception: then nothing was shown, and nothing is recorded."""
    response = view(request)
    if response.status_code == 200:
        record(request, request.user, "recovery_codes.viewed")
    return response
