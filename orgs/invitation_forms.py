"""The forms of invitations: a link, mails to many addresses, a file."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any, NamedTuple

from django import forms
from django.utils import timezone

from orgs.actor import Actor
from orgs.errors import Refused
from orgs.group_fields import GroupField
from orgs.member_files import MOST_BYTES
from orgs.member_forms import member_homes
from orgs.models import Group
from orgs.powers import AnyRole, makes_super_admin, may_give
from orgs.role_forms import ask_again, role_choices, role_words
from orgs.services.invitations import MOST_USES, clean_email

DAYS = ((1, "1 day"), (7, "7 days"), (30, "30 days"), (90, "90 days"))
MOST_ADDRESSES = 200
BETWEEN = re.compile(r"[,;\n]+")


class Addressee(NamedTuple):
    email: str
    name: str


class InvitationForm(forms.Form):
    """Into which group, as what, for how long."""

    def __init__(self, data: Any = None, *, actor: Actor) -> None:
        super().__init__(data)
        self.actor = actor
        groups = member_homes(actor)
        self.roles = role_choices(actor, groups=groups)
        choices = [("", "Member"), *((token, role_words(role)) for token, role in self.roles.items())]
        self.fields |= {
            "group": GroupField(groups, empty_label=None, initial=groups[0].pk if groups else None),
            "role": forms.ChoiceField(choices=choices, required=False, help_text="At that group and everything below it."),
            "days": forms.TypedChoiceField(choices=DAYS, coerce=int, initial=7, label="Open for"),
        }
        self.order_fields(["emails", "group", "role", "days", "max_uses", "email"])

    def clean(self) -> dict[str, Any]:
        group = self.cleaned_data.get("group")
        if self.role and group and not may_give(self.role, group, by=self.actor):
            self.add_error("role", f"You may not grant “{role_words(self.role)}” at {group}.")
        elif self.role and group and makes_super_admin(self.role, group):
            ask_again(self, whom="whom I invite", organization=self.actor.organization)
        return self.cleaned_data

    @property
    def role(self) -> AnyRole | None:
        return self.roles.get(self.cleaned_data.get("role", ""))

    @property
    def group(self) -> Group:
        group: Group = self.cleaned_data["group"]
        return group

    @property
    def expires_at(self) -> datetime:
        return timezone.now() + timedelta(days=self.cleaned_data["days"])


class LinkForm(InvitationForm):
    max_uses = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_USES,
        initial=1,
        label="How many may use it",
        help_text="Left empty: any number.",
    )
    email = forms.CharField(
        required=False,
        max_length=254,
        label="Only for this address",
        help_text="Whoever opens the link must own it. Used once.",
        widget=forms.EmailInput(attrs={"placeholder": "ada@example.com"}),
    )

    def clean_email(self) -> str:
        typed: str = self.cleaned_data["email"]
        return _email(typed) if typed else ""


class MailForm(InvitationForm):
    emails = forms.CharField(
        label="E-mail addresses",
        max_length=30_000,
        help_text=f"One per line or with commas between, with names or without: Ada <ada@example.com>. At most {MOST_ADDRESSES}.",
        widget=forms.Textarea(attrs={"rows": 4, "placeholder": "ada@example.com\nAlan <alan@example.com>", "autofocus": True}),
    )

    def clean_emails(self) -> list[Addressee]:
        """Each once. All that are wrong are named together."""
        found: dict[str, Addressee] = {}
        wrong: list[str] = []
        for part in filter(None, map(str.strip, BETWEEN.split(self.cleaned_data["emails"]))):
            for words in [part] if "<" in part else part.split():
                name, address = parseaddr(words)
                try:
                    email = clean_email(address or words)
                    found.setdefault(email, Addressee(email, name[:120]))
                except Refused:
                    wrong.append(words[:80])
        if wrong:
            raise forms.ValidationError(f"Not an e-mail address: {', '.join(wrong[:10])}{' …' if len(wrong) > 10 else ''}")
        if len(found) > MOST_ADDRESSES:
            raise forms.ValidationError(f"At most {MOST_ADDRESSES} at once: these are {len(found)}. A CSV file may have more.")
        return list(found.values())


class FileForm(forms.Form):
    file = forms.FileField(
        label="CSV file",
        help_text="Columns: email, name, group (its path, such as Engineering / Platform), role.",
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MOST_BYTES:
            raise forms.ValidationError(f"The file is larger than {MOST_BYTES // 1000:,} kB.")
        return file


def _email(typed: str) -> str:
    try:
        return clean_email(typed)
    except Refused as refused:
        raise forms.ValidationError(refused.message) from refused
