"""The sign-in page: the address first, then what belongs to it.

The first step tells nothing about accounts: whoever types an address is asked for a password, a passkey or a code, unless
the address's domain signs in elsewhere (orgs/sign_in.py). allauth does the rest: limits, checks, the second factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from allauth.account.fields import EmailField
from allauth.account.forms import LoginForm
from allauth.account.utils import passthrough_next_redirect_url
from allauth.account.views import LoginView
from django import forms
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from orgs.doors import public_view
from orgs.sign_in import sign_in_for
from orgs.sso import attempts
from orgs.sso.views import safe_next


class AddressForm(forms.Form):
    login = EmailField(label="E-mail")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attrs = self.fields["login"].widget.attrs
        attrs.update({"autocomplete": "username webauthn", "autofocus": True})
        attrs.pop("placeholder")


class SignInView(LoginView):
    """`step` in the template is "address" or "secret"."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._answer("address", AddressForm(initial={"login": request.GET.get("email", "")}))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        address = AddressForm(request.POST)
        if not address.is_valid():
            return self._answer("address", address, status=422)
        elsewhere = sign_in_for(address.cleaned_data["login"])
        # "here": the person chose another way, which those may who need not sign in elsewhere (orgs/sso/required.py).
        if elsewhere.url and "here" not in request.POST:
            attempts.intend(request.session, elsewhere.slug, email=address.cleaned_data["login"], next=safe_next(request))
            return redirect(passthrough_next_redirect_url(request, elsewhere.url, REDIRECT_FIELD_NAME))
        if "password" not in request.POST:
            return self._answer("secret", LoginForm(request=request, initial=address.cleaned_data))
        response: HttpResponse = super().post(request, *args, **kwargs)
        return response

    def form_invalid(self, form: forms.Form) -> HttpResponse:
        return self._answer("secret", form, status=422)

    def _answer(self, step: str, form: forms.Form, *, status: int = 200) -> HttpResponse:
        # What is an address is settled in the first step; the second only carries it along.
        if step == "secret":
            form.fields["login"].widget = forms.HiddenInput()
            form.fields["password"].widget.attrs["autofocus"] = True
        here = "here" in self.request.GET or "here" in self.request.POST
        context = self.get_context_data(form=form, step=step, address=form["login"].value(), here=here)
        if not settings.SIGN_UP_OPEN:
            context["signup_url"] = None
        response: HttpResponse = self.render_to_response(context, status=status)
        return response


sign_in = public_view(cast(Callable[..., HttpResponse], SignInView.as_view()))
