"""Console pages of single sign-on: its connections, what the provider and we tell each other, switches, tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.forms import Form
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gateway_project.lib.queries import search_in
from orgs.answers import alone, show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from orgs.services import sso as services
from orgs.sso import attempts
from orgs.sso.lookups import access_connection_by_id, access_identity_by_id
from orgs.sso_forms import NewConnectionForm, OidcForm, UseForm, configuration_form
from orgs.sso_models import SsoConnection
from orgs.sso_pages import connection_page, connections_of, verified_domains_of

MANAGE = Permission.MANAGE_SETTINGS
# On one page of those who are connected: the rest is found by address.
MOST_PEOPLE = 100


@require_safe
@org_view(MANAGE)
def connections(request: OrgRequest) -> HttpResponse:
    request.actor.require_everywhere(MANAGE)
    context = {"connections": connections_of(request.organization), "domains": verified_domains_of(request.organization)}
    return render(request, "orgs/sso/connections.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
def new(request: OrgRequest) -> HttpResponse:
    request.actor.require_everywhere(MANAGE)
    form = NewConnectionForm(request.POST if request.method == "POST" else None, actor=request.actor)
    if form.is_valid():
        chosen, use = form.cleaned_data, form.use
        kind = SsoConnection.Kind(chosen["kind"])
        try:
            connection = services.create_connection(
                kind, name=chosen["name"], group=use.group, admits_new=use.admits_new, by=request.actor
            )
        except Refused as refused:
            show_refusal(form, refused)
        else:
            return redirect(_address(request, connection))
    context = {"form": form, "form_action": request.path, "back_url": _list(request)}
    return render(request, "orgs/sso/new.html", context, status=422 if form.is_bound else 200)


@require_safe
@org_view(MANAGE)
def connection(request: OrgRequest, connection_id: int) -> HttpResponse:
    found = access_connection_by_id(request.actor, connection_id)
    return _page(request, found, configuration=configuration_form(found), use=UseForm(actor=request.actor, connection=found))


@sensitive_post_parameters("secret")
@require_POST
@org_view(MANAGE)
def configure(request: OrgRequest, connection_id: int) -> HttpResponse:
    """What the identity provider gives."""
    found = access_connection_by_id(request.actor, connection_id)
    form = configuration_form(found, request.POST)
    if form.is_valid():
        change = services.configure_oidc if isinstance(form, OidcForm) else services.configure_saml
        try:
            change(found, by=request.actor, **form.cleaned_data)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, "Saved. Test the connection, then try it yourself.")
            return redirect(_address(request, found))
    use = UseForm(actor=request.actor, connection=found)
    return _page(request, found, configuration=form, use=use, status=422)


@require_POST
@org_view(MANAGE)
@alone
def use(request: OrgRequest, connection_id: int) -> HttpResponse:
    """Its name, and who joins by it where."""
    found = access_connection_by_id(request.actor, connection_id)
    form = UseForm(request.POST, actor=request.actor, connection=found)
    if form.is_valid():
        try:
            services.change_use(found, name=form.cleaned_data["name"], use=form.use, by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, "Saved.")
            return redirect(_address(request, found))
    return _page(request, found, configuration=configuration_form(found), use=form, status=422)


@require_POST
@org_view(MANAGE)
def test(request: OrgRequest, connection_id: int) -> HttpResponse:
    found = access_connection_by_id(request.actor, connection_id)
    return _changed(request, found, lambda: services.test_connection(found, by=request.actor))


@require_POST
@org_view(MANAGE)
def trial(request: OrgRequest, connection_id: int) -> HttpResponse:
    """Goes through a whole sign-in and shows what would come of it; works before the connection is on."""
    found = access_connection_by_id(request.actor, connection_id)
    if not found.is_configured:
        messages.error(request, "Enter first what the identity provider gives you.")
        return redirect(_address(request, found))
    attempts.intend(request.session, found.slug, email=request.user.email, trial=True)
    return redirect("sso:start", slug=found.slug)


@require_POST
@org_view(MANAGE)
def enable(request: OrgRequest, connection_id: int) -> HttpResponse:
    found = access_connection_by_id(request.actor, connection_id)
    done = f"{found} is on: addresses of your verified domains are sent there."
    return _changed(request, found, lambda: services.set_enabled(found, True, by=request.actor), done)


@require_POST
@org_view(MANAGE)
def disable(request: OrgRequest, connection_id: int) -> HttpResponse:
    found = access_connection_by_id(request.actor, connection_id)
    done = f"{found} is off: everybody signs in by password, passkey or code."
    return _changed(request, found, lambda: services.set_enabled(found, False, by=request.actor), done)


@require_safe
@org_view(MANAGE)
def people(request: OrgRequest, connection_id: int) -> HttpResponse:
    """Who is connected; `q` is a part of the address."""
    found = access_connection_by_id(request.actor, connection_id)
    wanted = search_in(request.GET.get("q"), 254)
    connected = found.identities.filter(user__email__icontains=wanted).select_related("user").order_by("user__email")
    context = {"connection": found, "q": wanted, "people": connected[:MOST_PEOPLE], "count": connected.count()}
    return render(request, "orgs/sso/people.html", context)


@require_POST
@org_view(MANAGE)
def disconnect(request: OrgRequest, connection_id: int, identity_id: int) -> HttpResponse:
    found = access_connection_by_id(request.actor, connection_id)
    identity = access_identity_by_id(found, identity_id)
    tried(
        request,
        lambda: services.disconnect(identity, by=request.actor),
        f"{identity.user.email} is disconnected. The next sign-in there is judged as a first one.",
    )
    return redirect("sso_console:people", org=request.organization.slug, connection_id=found.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
def delete(request: OrgRequest, connection_id: int) -> HttpResponse:
    found = access_connection_by_id(request.actor, connection_id)
    if request.method == "POST":
        tried(request, lambda: services.delete_connection(found, by=request.actor), f"{found} is deleted.")
        return redirect(_list(request))
    people = found.identities.count()
    context = {
        "form_action": request.path,
        "back_url": _address(request, found),
        "confirm_title": f"Delete {found}?",
        "confirm_losses": [
            f"{people} {'person is' if people == 1 else 'people are'} connected by it; their accounts and memberships stay.",
            "They sign in by password, passkey or code from now on. Who never set a password can have one reset by e-mail.",
            "The provider's settings and the client secret are gone from here.",
        ],
        "confirm_hint": "To see what happens without it, turn it off first.",
        "confirm_verb": "Delete connection",
    }
    return render(request, "components/confirm.html", context)


def _page(request: OrgRequest, found: SsoConnection, *, configuration: Form, use: UseForm, status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {**connection_page(found), "configuration": configuration, "use": use}
    return render(request, "orgs/sso/connection.html", context, status=status)


def _changed(request: OrgRequest, found: SsoConnection, change: Callable[[], object], done: str = "") -> HttpResponse:
    tried(request, change, done)
    return redirect(_address(request, found))


def _address(request: OrgRequest, connection: SsoConnection) -> str:
    return reverse("sso_console:connection", kwargs={"org": request.organization.slug, "connection_id": connection.pk})


def _list(request: OrgRequest) -> str:
    return reverse("sso_console:connections", kwargs={"org": request.organization.slug})
