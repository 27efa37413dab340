from __future__ import annotations

from allauth.mfa.webauthn.forms import AddWebAuthnForm
from django import forms

from orgs.services.changes import NAME_LENGTH


class ProfileForm(forms.Form):
    name = forms.CharField(
        max_length=NAME_LENGTH,
        help_text="How colleagues see you.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )


class AddPasskeyForm(AddWebAuthnForm):
    """A key that needs nothing else, unless its owner says otherwise."""

    passwordless = forms.BooleanField(
        required=False,
        initial=True,
        label="Signs in alone",
        help_text="No address and no password: the key asks for your fingerprint, face or PIN. Otherwise it is a second factor.",
    )
    name = forms.CharField(required=False, max_length=60, help_text="To tell your keys apart.")
    field_order = ("name", "passwordless", "credential")
