"""allauth's forms, in the console's spelling."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import (
    AddEmailForm,
    ChangePasswordForm,
    RequestLoginCodeForm,
    ResetPasswordForm,
    ResetPasswordKeyForm,
    SetPasswordForm,
    SignupForm,
)
from allauth.socialaccount.forms import SignupForm as SocialSignupForm
from django import forms


class Hyphenated:
    """allauth writes "Email", and says so again in the empty field."""

    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = "E-mail"
        self.fields["email"].widget.attrs.pop("placeholder", None)


class Plain:
    """Its passwords are called as people would, once each, and what makes a good one is one sentence (of the validators in the
    settings) in place of a list. `new`: another password is there already."""

    fields: dict[str, forms.Field]
    new = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        what = "New password" if self.new else "Password"
        self._call("oldpassword", "Present password")
        self._call("password1", what, "At least 8 characters, not digits only, and nothing common or close to your name.")
        self._call("password2", f"{what}, once more")

    def _call(self, name: str, label: str, help_text: str = "") -> None:
        if field := self.fields.get(name):
            field.label, field.help_text = label, help_text
            field.widget.attrs.pop("placeholder", None)


class SignUpForm(Plain, Hyphenated, SignupForm):
    new = False


class ChangeForm(Plain, ChangePasswordForm):
    pass


class NewPasswordForm(Plain, ResetPasswordKeyForm):
    pass


class FirstPasswordForm(Plain, SetPasswordForm):
    new = False


class SocialSignUpForm(Hyphenated, SocialSignupForm):
    pass


class ResetForm(Hyphenated, ResetPasswordForm):
    pass


class AddAddressForm(Hyphenated, AddEmailForm):
    pass


class CodeForm(Hyphenated, RequestLoginCodeForm):
    pass
