"""allauth's forms, in the console's spelling."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import AddEmailForm, RequestLoginCodeForm, ResetPasswordForm, SignupForm
from allauth.socialaccount.forms import SignupForm as SocialSignupForm
from django import forms


class Hyphenated:
    """allauth writes "Email", and says so again in the empty field."""

    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = "E-mail"
        self.fields["email"].widget.attrs.pop("placeholder", None)


class SignUpForm(Hyphenated, SignupForm):
    pass


class SocialSignUpForm(Hyphenated, SocialSignupForm):
    pass


class ResetForm(Hyphenated, ResetPasswordForm):
    pass


class AddAddressForm(Hyphenated, AddEmailForm):
    pass


class CodeForm(Hyphenated, RequestLoginCodeForm):
    pass
