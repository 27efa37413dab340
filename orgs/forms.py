"""The form of an organisation's settings."""

from __future__ import annotations

from calendar import day_name, month_name
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils import timezone

from gateway_project.lib.filled import Filled
from orgs.errors import Refused
from orgs.models import Organization
from orgs.services.changes import clean_time_zone, time_zones
from orgs.services.organizations import Settings

FIRST_YEAR, LAST_YEAR = 2000, 2100
# Accepted are all zones; offered are those that people live in, each by its present name.
OLD_NAMES = ("Etc/", "SystemV/", "US/", "Canada/", "Brazil/", "Chile/", "Mexico/")


def offered_time_zones() -> list[str]:
    return ["UTC", *sorted(name for name in time_zones() if "/" in name and not name.startswith(OLD_NAMES))]


# Of the page, by their anchors.
SECTIONS = {
    "general": "General",
    "calendar": "Calendar",
    "security": "Security",
    "calls": "Calls",
    "retention": "Contents and retention",
    "unguarded": "When limits cannot be checked",
}


def sections_of(organization: Organization) -> list[tuple[str, str]]:
    """How people of a personal account sign in is on their own pages."""
    personal = organization.kind == Organization.Kind.PERSONAL
    return [(anchor, label) for anchor, label in SECTIONS.items() if not (personal and anchor == "security")]


class SettingsForm(Filled):
    # Fields that the form shows and saves as the organisation has them.
    AS_THEY_ARE = (
        "name", "time_zone", "week_start", "fiscal_month", "reset_hour",
        "attribution_required", "admit_unguarded", "content_retention_hours", "content_sample_percent", "zdr_only",
        "second_factor_required",
    )  # fmt: skip

    name = forms.CharField(max_length=120)
    time_zone = forms.CharField(
        max_length=64,
        help_text="Type a city or a region.",
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off", "spellcheck": "false"}),
    )
    week_start = forms.TypedChoiceField(label="Weeks begin on", choices=list(enumerate(day_name)), coerce=int)
    fiscal_month = forms.TypedChoiceField(
        label="The fiscal year begins in", choices=list(enumerate(month_name))[1:], coerce=int, help_text="Quarters follow it."
    )
    reset_hour = forms.TypedChoiceField(
        label="Days begin at", choices=[(hour, f"{hour:02}:00") for hour in range(24)], coerce=int, help_text="Local time."
    )
    attribution_required = forms.BooleanField(
        required=False,
        label="Require attribution",
        help_text="Calls whose key names no application, feature and environment are refused.",
    )
    approval_required = forms.BooleanField(
        required=False,
        label="New models need an approval",
        help_text="Models first offered on or after the day below are refused until they are approved.",
    )
    approval_from = forms.DateField(
        required=False,
        label="New is what is first offered from this day on",
        help_text="The day counts, too. Left empty: from now on.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    admit_unguarded = forms.BooleanField(required=False, label="Let calls pass while limits cannot be checked")
    second_factor_required = forms.BooleanField(
        required=False,
        label="Require a second factor",
        help_text="Who has neither an authenticator app nor a passkey sees nothing of this organisation until one is set up.",
    )
    content_retention_hours = forms.IntegerField(
        label="Keep contents of calls for",
        min_value=0,
        max_value=Organization.MOST_RETENTION_HOURS,
        help_text="0 keeps nothing. At most 720 hours, which is 30 days.",
    )
    content_sample_percent = forms.IntegerField(
        label="Of how many calls",
        min_value=1,
        max_value=100,
        help_text="Chosen at random. A response that a program asks to be stored is kept in any case.",
    )
    zdr_only = forms.BooleanField(
        required=False,
        label="Zero data retention only",
        help_text="Calls go only where a provider promises to retain nothing. A model without such a deployment is refused.",
    )

    def __init__(self, data: Any = None, *, organization: Organization, since: datetime | None = None) -> None:
        """`since`: what new models were counted from when their approval was last switched off, to switch it on again."""
        self.since = organization.approval_since or since
        self.zone = ZoneInfo(organization.time_zone)
        there = {field: getattr(organization, field) for field in self.AS_THEY_ARE}
        approval = {"approval_required": organization.approval_since is not None, "approval_from": self._since_date()}
        super().__init__(data, there=there | approval)

    def _since_date(self) -> date | None:
        return None if self.since is None else self.since.astimezone(self.zone).date()

    @property
    def settings(self) -> Settings:
        """What `change_settings` takes, of a valid form."""
        cleaned = self.cleaned_data
        return {
            "name": cleaned["name"],
            "time_zone": cleaned["time_zone"],
            "week_start": cleaned["week_start"],
            "fiscal_month": cleaned["fiscal_month"],
            "reset_hour": cleaned["reset_hour"],
            "attribution_required": cleaned["attribution_required"],
            "admit_unguarded": cleaned["admit_unguarded"],
            "content_retention_hours": cleaned["content_retention_hours"],
            "content_sample_percent": cleaned["content_sample_percent"],
            "zdr_only": cleaned["zdr_only"],
            "second_factor_required": cleaned["second_factor_required"],
            "approval_since": (self.chosen_since or timezone.now()) if cleaned["approval_required"] else None,
        }

    def clean_time_zone(self) -> str:
        try:
            return clean_time_zone(self.cleaned_data["time_zone"])
        except Refused as refused:
            raise forms.ValidationError(refused.message) from refused

    def clean_approval_from(self) -> date | None:
        """What is typed wrong, such as the year 20, is no date."""
        chosen: date | None = self.cleaned_data["approval_from"]
        if chosen is not None and not FIRST_YEAR <= chosen.year <= LAST_YEAR:
            raise forms.ValidationError("Enter a valid date.")
        return chosen

    @property
    def chosen_since(self) -> datetime | None:
        """Switched on or off. The day shown stands for the exact moment kept; another day for its beginning."""
        chosen = self.cleaned_data.get("approval_from")
        if chosen is None or chosen == self._since_date():
            return self.since if chosen else None
        return datetime.combine(chosen, time(), tzinfo=ZoneInfo(self.cleaned_data.get("time_zone", self.zone.key)))
