"""The operator's pages of providers: what is declared, whether it can be reached, how each deployment does; and declaring."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods, require_safe

from orgs.answers import go_to, show_refusal
from orgs.doors import SignedInRequest, staff_view
from orgs.errors import Refused
from orgs.origin import origin_of
from orgs.services.freezing import Operator
from proxy import declaring
from proxy.catalogue_file import BadCatalogue
from proxy.operator_forms import CatalogueForm, ProviderForm
from proxy.operator_pages import EXAMPLE, provider_rows
from proxy.routing_pages import model_rows


@require_safe
@staff_view
def providers(request: SignedInRequest) -> HttpResponse:
    models = model_rows()
    return render(request, "platform/providers.html", {"rows": provider_rows(models), "models": models, "in_platform": True})


@require_http_methods(["GET", "HEAD", "POST"])
@staff_view
def add_provider(request: SignedInRequest) -> HttpResponse:
    form, back = ProviderForm(request.POST if request.method == "POST" else None), reverse("platform:providers")
    if form.is_valid():
        try:
            report = declaring.add_provider_by(_operator(request), form.declared(), offers=form.cleaned_data["offers"])
        except Refused as refused:
            show_refusal(form, refused)
        except BadCatalogue as error:
            form.add_error(None, capfirst("; ".join(problem.reason for problem in error.problems)) + ".")
        else:
            models = declaring.offered_in(report)
            offered = f", and {models} model{'' if models == 1 else 's'} can be called" if models else ""
            messages.success(request, f"{form.cleaned_data['name']} is declared{offered}.")
            return go_to(request, back)
    context = {"form": form, "form_action": request.path, "back_url": back, "in_platform": True}
    return render(request, "platform/provider_new.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@staff_view
def catalogue_file(request: SignedInRequest) -> HttpResponse:
    """Checked as often as one likes, and loaded: all of it or nothing."""
    form, report, problems = CatalogueForm(request.POST if request.method == "POST" else None), None, []
    if form.is_valid():
        text, loads = form.cleaned_data["text"], request.POST.get("do") == "load"
        try:
            report = declaring.declare_by(_operator(request), text) if loads else declaring.check(text)
        except BadCatalogue as error:
            problems = error.problems
        if loads and report:
            counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts().items())
            messages.success(request, f"The catalogue is loaded: {counts or 'it declares nothing'}.")
            return redirect("platform:providers")
    context = {"form": form, "report": report, "problems": problems, "example": EXAMPLE, "in_platform": True}
    return render(request, "platform/catalogue.html", context, status=422 if form.is_bound and not report else 200)


def _operator(request: SignedInRequest) -> Operator:
    return Operator(request.user, origin_of(request))
