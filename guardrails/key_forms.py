"""The forms of what is done to a key that exists: its description, a new text, several keys at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone

from guardrails.forms import AttributionForm
from orgs.models import ApiKey
from orgs.services.keys import LONGEST_GRACE

GRACES = {
    "none": ("At once", None),
    "hour": ("In an hour", timedelta(hours=1)),
    "day": ("In 24 hours", timedelta(days=1)),
    "week": ("In 7 days", timedelta(days=7)),
    "month": ("In 30 days", timedelta(days=30)),
}
MOMENT = "moment"


class EditKeyForm(AttributionForm):
    """`chosen`: what is chosen so far in a form not sent yet; else the key is shown as it is."""

    def __init__(self, data: Any = None, *, key: ApiKey, chosen: QueryDict | None = None) -> None:
        self.key = key
        self.last_day = timezone.localtime(key.expires_at - timedelta(microseconds=1)).date() if key.expires_at else None
        there = {name: getattr(key, name) for name in ("name", "application", "environment", "features")}
        super().__init__(data, there=there | {"expires_on": self.last_day})
        self.chosen = (
            self.data if self.is_bound else chosen or {"application": key.application_id, "environment": key.environment}
        )
        self.follow(key.group, standing=key.application_id)
        if not isinstance(self.chosen, QueryDict):
            self.initial["features"] = key.features
        if key.member_id is None:
            self.fields["application"].disabled = True
            self.fields["application"].help_text = "A service key stays with its application."

    def typed(self, name: str) -> str:
        """A service key's application is not asked for, so nothing is sent for it."""
        return str(self.key.application_id) if name == "application" and self.key.member_id is None else super().typed(name)

    def clean_expires_on(self) -> Any:
        """A day that is over may stay as it is: whoever renames an expired key says nothing about its end."""
        day = self.cleaned_data["expires_on"]
        return day if day == self.last_day else super().clean_expires_on()

    @property
    def expires_at(self) -> datetime | None:
        """An end within a day, which only a program can have set, stays to the minute while its day stays."""
        return self.key.expires_at if self.cleaned_data["expires_on"] == self.last_day else super().expires_at


class RotateForm(forms.Form):
    grace = forms.ChoiceField(
        label="The old text stops",
        choices=[*((name, words) for name, (words, _) in GRACES.items()), (MOMENT, "At a moment of my own")],
        initial="day",
        widget=forms.RadioSelect,
    )
    old_until = forms.DateTimeField(
        label="Moment",
        required=False,
        help_text="In the organisation's time zone.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def clean(self) -> dict[str, Any]:
        typed = super().clean() or {}
        if typed.get("grace") == MOMENT and not self.errors:
            if typed.get("old_until") is None:
                self.add_error("old_until", "Say when the old text stops.")
            elif not timezone.now() < typed["old_until"] <= timezone.now() + LONGEST_GRACE:
                self.add_error("old_until", f"Choose a moment within the next {LONGEST_GRACE.days} days.")
        return typed

    @property
    def until(self) -> datetime | None:
        if self.cleaned_data["grace"] == MOMENT:
            moment: datetime = self.cleaned_data["old_until"]
            return moment
        grace = GRACES[self.cleaned_data["grace"]][1]
        return timezone.now() + grace if grace else None
