"""A person's own access tokens: the list, a new one, whose text is shown once, and the end of one."""

from __future__ import annotations

from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods, require_POST

from orgs.doors import SignedInRequest, signed_in_view
from orgs.errors import Refused
from orgs.origin import origin_of
from orgs.services.tokens import create_token, own_token, revoke_token, tokens_of
from orgs.token_forms import TokenForm
from orgs.tokens import shown


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_view
def tokens(request: SignedInRequest) -> HttpResponse:
    """A token outlives the session, so it is made by who has shown the password, or a factor, in the last minutes."""
    if request.method == "POST":
        raise_if_reauthentication_required(request, app="allauth.account")
    form, made = TokenForm(request.POST if request.method == "POST" else None), None
    if form.is_valid():
        try:
            made = create_token(
                request.user,
                name=form.cleaned_data["name"],
                scopes=form.scopes,
                expires_at=form.expires_at,
                origin=origin_of(request),
            )
        except Refused as refused:
            form.add_error("read" if refused.field == "scopes" else refused.field, refused.message)
    context = {
        "form": TokenForm() if made else form,
        "made": made,
        "tokens": [(token, shown(token.scopes)) for token in tokens_of(request.user)],
    }
    answer = render(request, "orgs/tokens.html", context, status=422 if form.is_bound and not made else 200)
    add_never_cache_headers(answer)
    return answer


@require_POST
@signed_in_view
def revoke(request: SignedInRequest, token_id: int) -> HttpResponse:
    token = own_token(request.user, token_id)
    if token is None:
        raise Http404("no such token")
    revoke_token(token, origin=origin_of(request))
    messages.success(request, f"{token} is revoked: it fails on its next use.")
    return redirect("tokens:list")
