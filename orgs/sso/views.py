"""Sign-in at an organisation's identity provider, as a browser goes through it. Console pages: orgs/sso_views.py.

A browser is sent away only after a press on one of our own buttons: by a mere link anybody could sign a stranger in to an
account of their choosing. The page in between goes on by itself: a form that led elsewhere would need a hole in the CSP.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from allauth.core import ratelimit
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from orgs.doors import public_view
from orgs.errors import Refused
from orgs.models import User
from orgs.origin import origin_of
from orgs.sso import admission, attempts, oidc, protocols
from orgs.sso.attempts import Attempt
from orgs.sso.errors import NotReached, SsoFailed
from orgs.sso.identity import Identity
from orgs.sso.lookups import access_connection_by_slug
from orgs.sso_models import SsoConnection

Kind = SsoConnection.Kind
TICKET_SECONDS = 60


@public_view
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def start(request: HttpRequest, slug: str) -> HttpResponse:
    """The page that begins: with a button, or by itself after one was pressed here."""
    connection = access_connection_by_slug(slug)
    if request.method == "POST":
        attempts.intend(request.session, slug, next=safe_next(request))
        return _too_many(request) or redirect(request.path)
    intent = attempts.take_intent(request.session, slug)
    if intent is None or not (connection.is_open or intent.trial):
        _refuse_disabled(connection)
        return render(request, "orgs/sso/start.html", {"connection": connection, "next": safe_next(request)})
    try:
        url = protocols.begin(connection, request.session, intent)
    except SsoFailed as failed:
        return _failed(request, connection, failed.message, status=502)
    return render(request, "orgs/sso/going.html", {"connection": connection, "url": url})


@public_view
@never_cache
@require_GET
def callback(request: HttpRequest, slug: str) -> HttpResponse:
    """OIDC: the provider sends the browser back with a code."""
    connection = access_connection_by_slug(slug, Kind.OIDC)
    attempt = attempts.take(request.session, slug=slug, key=request.GET.get("state", ""))
    if attempt is None:
        return _failed(request, connection, "This sign-in was not begun here, or too long ago. Begin again.")
    if "code" not in request.GET:
        return _failed(request, connection, f"{connection} did not sign you in.")
    try:
        code = request.GET["code"]
        identity = oidc.redeem(connection, code=code, nonce=attempt.nonce, verifier=attempt.verifier)
    except SsoFailed as failed:
        return _failed(request, connection, failed.message, status=502 if isinstance(failed, NotReached) else 403)
    return _finish(request, connection, identity, attempt)


@csrf_exempt
@public_view
@never_cache
@require_POST
def acs(request: HttpRequest, slug: str) -> HttpResponse:
    """SAML: the provider has the browser send its answer. Browsers leave our session's cookie out of a form that comes from
    elsewhere, so what was verified waits a moment under a random name, and the next request finishes."""
    from orgs.sso import saml

    connection = access_connection_by_slug(slug, Kind.SAML)
    if too_many := _too_many(request):
        return too_many
    try:
        answer = saml.read_answer(connection, request.POST.get("SAMLResponse", ""))
    except SsoFailed as failed:
        return _failed(request, connection, failed.message)
    ticket = secrets.token_urlsafe(32)
    cache.set(_waiting(slug, ticket), {"key": answer.in_response_to, "identity": asdict(answer.identity)}, TICKET_SECONDS)
    return HttpResponseRedirect(f"{reverse('sso:finish', kwargs={'slug': slug})}?ticket={ticket}")


@public_view
@never_cache
@require_GET
def finish(request: HttpRequest, slug: str) -> HttpResponse:
    connection = access_connection_by_slug(slug, Kind.SAML)
    waiting = _waiting(slug, request.GET.get("ticket", ""))
    answer = cache.get(waiting)
    # Who deletes it has it: of two requests at once only one.
    if answer is None or not cache.delete(waiting):
        return _failed(request, connection, "This sign-in was finished already, or took too long. Begin again.")
    if answer["key"]:
        attempt = attempts.take(request.session, slug=slug, key=answer["key"])
    else:
        attempt = Attempt(slug, "", next="", trial=False) if connection.idp_initiated else None
    if attempt is None:
        return _failed(request, connection, "This sign-in was not begun here. Begin on the sign-in page.")
    return _finish(request, connection, Identity(**answer["identity"]), attempt)


@public_view
@require_GET
def metadata(request: HttpRequest, slug: str) -> HttpResponse:
    from orgs.sso import saml

    found = saml.metadata(access_connection_by_slug(slug, Kind.SAML))
    return HttpResponse(found, content_type="application/samlmetadata+xml")


def _finish(request: HttpRequest, connection: SsoConnection, identity: Identity, attempt: Attempt) -> HttpResponse:
    signed_in = request.user if isinstance(request.user, User) else None
    if attempt.trial:
        return _show_trial(request, connection, identity, signed_in=signed_in)
    try:
        _refuse_disabled(connection)
        user = admission.admit(connection, identity, signed_in=signed_in, origin=origin_of(request))
    except Refused as refused:
        return _failed(request, connection, refused.message)
    if signed_in:
        get_adapter(request).logout(request)
    record_authentication(request, user, "sso", provider=connection.slug)
    # No object in what goes with it: it is kept in the session while a second factor is asked for.
    response: HttpResponse = perform_login(
        request, user, redirect_url=attempt.next or None, signal_kwargs={"sso": connection.slug}, email=user.email
    )
    return response


def _show_trial(request: HttpRequest, connection: SsoConnection, identity: Identity, *, signed_in: User | None) -> HttpResponse:
    """For whoever sets the connection up: what would happen."""
    context: dict[str, Any] = {"connection": connection, "identity": identity, "back": _console(connection)}
    try:
        context["verdict"] = admission.judge(connection, identity, signed_in=signed_in)
    except Refused as refused:
        context["refusal"] = refused.message
    return render(request, "orgs/sso/trial.html", context)


def _refuse_disabled(connection: SsoConnection) -> None:
    """Raises Http404: whoever does not set it up learns nothing of a connection that is off."""
    if not connection.is_open:
        raise Http404("no such single sign-on")


def _too_many(request: HttpRequest) -> HttpResponse | None:
    """429 for an address that tries too often; None for everybody else."""
    answer: HttpResponse | None = ratelimit.consume_or_429(request, action="sso")
    return answer


def safe_next(request: HttpRequest) -> str:
    """Only to a page of our own; "" for none."""
    wanted = request.POST.get("next", request.GET.get("next", ""))
    fits = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None, require_https=request.is_secure())
    return wanted if fits and wanted.startswith("/") else ""


def _waiting(slug: str, ticket: str) -> str:
    return f"sso:ticket:{slug}:{ticket[:80]}"


def _console(connection: SsoConnection) -> str:
    return reverse("sso_console:connection", kwargs={"org": connection.organization.slug, "connection_id": connection.pk})


def _failed(request: HttpRequest, connection: SsoConnection, message: str, *, status: int = 403) -> HttpResponse:
    return render(request, "orgs/sso/failed.html", {"connection": connection, "message": message}, status=status)
