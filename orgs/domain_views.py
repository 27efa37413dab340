"""Console pages of an organisation's domains: add, prove, require single sign-on, remove."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from orgs.answers import show_refusal, tried
from orgs.doors import OrgRequest, org_view
from orgs.errors import Refused
from orgs.permissions import Permission
from orgs.services import domains as services
from orgs.sso.lookups import access_domain_by_id
from orgs.sso_forms import CodeForm, DomainForm
from orgs.sso_pages import connection_in_use, domains_of

MANAGE = Permission.MANAGE_SETTINGS


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
def domains(request: OrgRequest) -> HttpResponse:
    """The list; a form on it adds one."""
    request.actor.require_everywhere(MANAGE)
    form = DomainForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            domain = services.add_domain(form.cleaned_data["name"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"{domain} is added. Prove now that it is yours.")
            return redirect(request.path)
    return _page(request, form=form, status=422 if form.is_bound else 200)


@require_POST
@org_view(MANAGE)
def check(request: OrgRequest, domain_id: int) -> HttpResponse:
    """Looks for the DNS record."""
    domain = access_domain_by_id(request.actor, domain_id)

    def checked() -> None:
        found = services.check_record(domain, by=request.actor)
        if found.verified_at and not found.missing_since:
            messages.success(request, f"{domain} is verified: its record was found.")
        else:
            messages.warning(
                request, f"The record of {domain} was not found. It can take an hour until name servers know a new one."
            )

    return _tried(request, checked)


@require_POST
@org_view(MANAGE)
def send_code(request: OrgRequest, domain_id: int) -> HttpResponse:
    domain = access_domain_by_id(request.actor, domain_id)

    def sent() -> None:
        services.send_code(domain, by=request.actor)
        messages.success(request, f"A code is on its way to {domain.postmaster}. It works for a day.")

    return _tried(request, sent)


@require_POST
@org_view(MANAGE)
def prove(request: OrgRequest, domain_id: int) -> HttpResponse:
    """With the code that was mailed."""
    domain = access_domain_by_id(request.actor, domain_id)
    form = CodeForm(request.POST)
    if form.is_valid():
        try:
            services.prove_by_code(domain, form.cleaned_data["code"], by=request.actor)
        except Refused as refused:
            show_refusal(form, refused)
        else:
            messages.success(request, f"{domain} is verified.")
            return redirect(_list(request))
    return _page(request, form=DomainForm(), code_form=form, code_of=domain.pk, status=422)


@require_POST
@org_view(MANAGE)
def require(request: OrgRequest, domain_id: int) -> HttpResponse:
    """Switches whether single sign-on is the only way: `required` is "1" or "0"."""
    domain = access_domain_by_id(request.actor, domain_id)
    wanted = request.POST.get("required") == "1"

    def switched() -> None:
        services.require_sso(domain, wanted, by=request.actor)
        ways = "by single sign-on only, Super Admins excepted" if wanted else "as they like"
        messages.success(request, f"Members at {domain} sign in {ways}.")

    return _tried(request, switched)


@require_http_methods(["GET", "HEAD", "POST"])
@org_view(MANAGE)
def remove(request: OrgRequest, domain_id: int) -> HttpResponse:
    domain = access_domain_by_id(request.actor, domain_id)
    if request.method == "POST":

        def removed() -> None:
            services.remove_domain(domain, by=request.actor)
            messages.success(request, f"{domain} is removed.")

        return _tried(request, removed)
    context = {
        "form_action": request.path,
        "back_url": _list(request),
        "confirm_title": f"Remove {domain}?",
        "confirm_losses": [
            f"Addresses at {domain} cannot sign in by your single sign-on any more.",
            "Another organisation that proves the domain can have it.",
        ],
        "confirm_verb": "Remove domain",
    }
    return render(request, "components/confirm.html", context)


def _page(
    request: OrgRequest, *, form: DomainForm, code_form: CodeForm | None = None, code_of: int = 0, status: int = 200
) -> HttpResponse:
    found = domains_of(request.organization)
    now = timezone.now()
    context = {
        "form": form,
        "code_form": code_form,
        "rows": [
            (one, one.code_is_open(now), code_form if one.pk == code_of else CodeForm(auto_id=f"code-{one.pk}-%s"))
            for one in found
        ],
        "connection": connection_in_use(request.organization),
    }
    return render(request, "orgs/sso/domains.html", context, status=status)


def _tried(request: OrgRequest, change: Callable[[], None]) -> HttpResponse:
    tried(request, change)
    return redirect(_list(request))


def _list(request: OrgRequest) -> str:
    return reverse("sso_console:domains", kwargs={"org": request.organization.slug})
