"""The forms of single sign-on and of domains. A client secret is typed and never shown: not even after a refusal."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from gateway_project.lib.filled import Filled
from orgs.actor import Actor
from orgs.group_fields import PathField, offer
from orgs.permissions import Permission
from orgs.selectors import open_tree
from orgs.services.changes import NAME_LENGTH
from orgs.services.sso import MOST_METADATA, MOST_SECRET, Use
from orgs.sso_models import URL_LENGTH, SsoConnection

MONO = {"autocomplete": "off", "spellcheck": "false", "class": "gh-mono"}


class Hidden(forms.CharField):
    """What was typed is not written into the page again."""

    def bound_data(self, data: object, initial: object) -> object:
        return ""


class DomainForm(forms.Form):
    name = forms.CharField(
        label="Domain", max_length=253, widget=forms.TextInput(attrs={**MONO, "placeholder": "example.com", "inputmode": "url"})
    )


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code",
        max_length=20,
        widget=forms.TextInput(attrs={**MONO, "inputmode": "numeric", "autocomplete": "one-time-code"}),
    )


class UseForm(Filled):
    """How a connection is used here."""

    name = forms.CharField(max_length=NAME_LENGTH, help_text="What its button says: your company, or the provider.")
    group = PathField(queryset=None, label="New people join", empty_label=None, help_text="As members without a role.")
    admits_new = forms.BooleanField(
        required=False,
        initial=True,
        label="Who comes first by single sign-on becomes a member",
        help_text="Only with an address in one of your verified domains. Off: new people need an invitation.",
    )
    idp_initiated = forms.BooleanField(
        required=False,
        label="The provider may begin a sign-in",
        help_text="For tiles in the provider's portal. Somebody could then be signed in by a link without asking for it.",
    )

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, connection: SsoConnection | None = None) -> None:
        names = ("name", "group", "admits_new", "idp_initiated") if connection else ()
        super().__init__(data, there={name: getattr(connection, name) for name in names})
        offer(self.fields["group"], open_tree(actor, Permission.MANAGE_SETTINGS))
        if connection is None or connection.kind != SsoConnection.Kind.SAML:
            del self.fields["idp_initiated"]

    @property
    def use(self) -> Use:
        cleaned = self.cleaned_data
        return Use(cleaned["group"], cleaned["admits_new"], cleaned.get("idp_initiated", False))


class NewConnectionForm(UseForm):
    kind = forms.ChoiceField(label="Protocol", choices=SsoConnection.Kind, widget=forms.RadioSelect, initial="oidc")
    field_order = ("kind", "name", "group", "admits_new")


class OidcForm(Filled):
    issuer = forms.CharField(
        max_length=URL_LENGTH,
        help_text="Its discovery document lies at this address plus /.well-known/openid-configuration.",
        widget=forms.TextInput(attrs={**MONO, "placeholder": "https://…", "inputmode": "url"}),
    )
    client_id = forms.CharField(label="Client ID", max_length=255, widget=forms.TextInput(attrs=MONO))
    secret = Hidden(
        label="Client secret",
        required=False,
        max_length=MOST_SECRET,
        widget=forms.TextInput(attrs=MONO),
        help_text="Kept encrypted, and never shown again.",
    )

    def __init__(self, data: QueryDict | None = None, *, connection: SsoConnection) -> None:
        super().__init__(data, there={"issuer": connection.issuer, "client_id": connection.client_id})
        self.fields["secret"].required = not connection.secret_encrypted
        if connection.secret_encrypted:
            self.fields["secret"].help_text = "Left empty, it stays as it is."
            self.fields["secret"].widget.attrs["placeholder"] = "unchanged"


class SamlForm(Filled):
    metadata_url = forms.CharField(
        label="Metadata URL",
        required=False,
        max_length=URL_LENGTH,
        help_text="The best way: new certificates are then found by themselves.",
        widget=forms.TextInput(attrs={**MONO, "placeholder": "https://…", "inputmode": "url"}),
    )
    metadata = forms.CharField(
        label="Or the metadata itself",
        required=False,
        max_length=MOST_METADATA,
        widget=forms.Textarea(attrs={**MONO, "rows": 4, "placeholder": "<EntityDescriptor …>"}),
    )

    def __init__(self, data: QueryDict | None = None, *, connection: SsoConnection) -> None:
        super().__init__(data, there={"metadata_url": connection.metadata_url, "provider": connection.issuer})

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors and not cleaned.get("metadata_url") and not cleaned.get("metadata"):
            raise forms.ValidationError("Give the metadata's URL, or paste the metadata.")
        return cleaned


def configuration_form(connection: SsoConnection, data: QueryDict | None = None) -> OidcForm | SamlForm:
    """What the identity provider gives, by the connection's protocol."""
    return (OidcForm if connection.kind == SsoConnection.Kind.OIDC else SamlForm)(data, connection=connection)
