"""The forms of the key pages. Amounts are typed in dollars and become nano-dollars; what was typed stays on an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone

from gateway_project.lib import dollars
from gateway_project.lib.filled import Filled
from gateway_project.lib.money import field_usd
from guardrails import entries
from guardrails.counted import Full, full_of_keys
from guardrails.selectors import NO_LIMITS, NO_RULES, KeyLimits, KeyRules
from guardrails.services.policies import MAX_COUNT, MAX_RPM
from orgs.actor import Actor
from orgs.group_fields import PathField, offer
from orgs.models import Application, Group, User
from orgs.permissions import Permission
from orgs.selectors import bindable_applications, members_to_key, open_tree

LAST_YEAR = 2100
MOST_SUGGESTED = 100


class DollarField(dollars.DollarField):
    """Of a limit: none where nothing is typed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nothing="Give more than zero. To stop a key, disable it.", **options)
        self.widget.attrs["placeholder"] = "No limit"


class RateField(forms.IntegerField):
    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, min_value=1, max_value=MAX_RPM, label="Requests per minute", **options)
        self.widget.attrs.update({"placeholder": "No limit"})


class CountField(forms.IntegerField):
    def __init__(self, label: str) -> None:
        super().__init__(required=False, min_value=1, max_value=MAX_COUNT, label=label)
        self.widget.attrs.update({"placeholder": "No limit"})


class ListField(forms.CharField):
    """Entries of a rule, one per line or with commas between → a list."""

    def __init__(self, label: str, *, help_text: str, placeholder: str) -> None:
        attrs = {"rows": 3, "placeholder": placeholder, "spellcheck": "false", "class": "gh-mono"}
        super().__init__(label=label, help_text=help_text, required=False, max_length=20_000, widget=forms.Textarea(attrs=attrs))

    def clean(self, value: Any) -> Any:
        return entries.typed(super().clean(value))


class AttributionForm(Filled):
    """What a key is called, what its calls are for and when it ends. Choices follow from its home and the application chosen."""

    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"placeholder": "What it is for", "autofocus": True}))
    application: forms.ModelChoiceField[Application] = forms.ModelChoiceField(queryset=None, required=False, empty_label="None")
    environment = forms.ChoiceField(required=False)
    features = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple)
    expires_on = forms.DateField(
        required=False,
        label="Valid until",
        help_text="The whole day, in the organisation's time zone.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    chosen: Mapping[str, Any]
    has_applications = False

    def follow(self, home: Group | None, *, standing: int | None = None) -> None:
        """Applications of the home's path, and by its id the one that is named so far; environments and features of the
        application `chosen`."""
        found = bindable_applications(home) if home else Application.objects.none()
        found = found | Application.objects.filter(pk=standing) if standing else found
        applications = list(found)
        self.has_applications = bool(applications)
        _choose_from(self.fields["application"], applications, found)
        chosen = next((found for found in applications if str(found.pk) == self.typed("application")), None)
        environments = chosen.environments if chosen else []
        self._choices("environment", [("", "None"), *((name, name) for name in environments)])
        self._choices("features", [(name, name) for name in (chosen.features if chosen else [])])
        self.initial["application"] = chosen
        self.initial["environment"] = self.typed("environment")
        self.initial["features"] = self.chosen.getlist("features") if isinstance(self.chosen, QueryDict) else []

    def typed(self, name: str) -> str:
        return str(self.chosen.get(name, ""))

    def _choices(self, name: str, choices: Iterable[tuple[str, str]]) -> None:
        field = self.fields[name]
        if isinstance(field, forms.ChoiceField):
            field.choices = list(choices)

    def clean_expires_on(self) -> date | None:
        day: date | None = self.cleaned_data["expires_on"]
        if day is not None and day < timezone.localdate():
            raise forms.ValidationError("This day is over.")
        if day is not None and day.year >= LAST_YEAR:
            raise forms.ValidationError(f"Choose a day before {LAST_YEAR}, or none at all.")
        return day

    @property
    def expires_at(self) -> datetime | None:
        """The first moment of the day after, in the organisation's time zone."""
        day: date | None = self.cleaned_data["expires_on"]
        return timezone.make_aware(datetime.combine(day + timedelta(days=1), time())) if day else None


class NewKeyForm(AttributionForm):
    """The home chosen decides which applications can be named. `chosen`: what is chosen so far in a form not sent yet."""

    owner = forms.ChoiceField(
        label="Used by",
        choices=[("me", "Me"), ("member", "Another member"), ("service", "The application itself (service key)")],
        widget=forms.RadioSelect,
        required=False,
    )
    email = forms.EmailField(
        label="Member",
        required=False,
        help_text="Is told by e-mail that there is a key, not what it is: you hand it over.",
        widget=forms.EmailInput(attrs={"list": "home-members", "autocomplete": "off", "placeholder": "Address of a member"}),
    )
    group = PathField(
        queryset=None, label="Home group", empty_label=None, help_text="Its limits apply, and its spend counts here."
    )
    budget = DollarField(label="Budget")
    budget_window = forms.ChoiceField(
        label="Budget window", choices=[("month", "per month"), ("day", "per day"), ("total", "in total")]
    )
    rpm = RateField()
    models = ListField("Allowed models", help_text="Left empty: every model. * and ? are wildcards.", placeholder="gpt-5*")
    addresses = ListField(
        "Allowed addresses", help_text="IP addresses or networks. Left empty: from anywhere.", placeholder="10.0.0.0/8"
    )

    def __init__(self, data: Any = None, *, actor: Actor, chosen: QueryDict | None = None) -> None:
        super().__init__(data)
        self.actor = actor
        self.chosen = self.data if self.is_bound else chosen or QueryDict()
        # Read once: the same list serves the default, the choices and the check.
        self.homes = open_tree(actor, Permission.MANAGE_KEYS)
        own = [membership.group_id for membership in actor.memberships]
        nearest = next((home for home in reversed(self.homes) if home.pk in own), next(iter(self.homes), None))
        home = next((home for home in self.homes if str(home.pk) == self.typed("group")), nearest)
        self.initial["owner"] = owner if (owner := self.typed("owner")) in ("member", "service") else "me"
        self.initial["group"], self.initial["email"] = home, self.typed("email")
        self.others: list[User] = []
        offer(self.fields["group"], self.homes)
        if not actor.can_anywhere(Permission.MANAGE_KEYS):
            del self.fields["owner"]
        field = self.fields["application"]
        if isinstance(field, forms.ModelChoiceField) and actor.organization.attribution_required:
            field.empty_label = "Choose one"
        if self.is_service:
            self._require_application()
        self.follow(home)
        self.home_shown = home
        if actor.organization.attribution_required:
            self._require_attribution()
        if not self.is_for_other:
            del self.fields["email"]
            return
        self.fields["email"].required = True
        if home is not None and actor.can(Permission.MANAGE_KEYS, home):  # who is a member beside is nobody's to see
            self.others = list(members_to_key(home, by=actor)[:MOST_SUGGESTED])

    @property
    def is_for_other(self) -> bool:
        return "owner" in self.fields and self.typed("owner") == "member"

    @property
    def is_service(self) -> bool:
        return "owner" in self.fields and self.typed("owner") == "service"

    def _require_application(self) -> None:
        """The key is its own, and is at home where it is."""
        field = self.fields["application"]
        if isinstance(field, forms.ModelChoiceField):
            field.required, field.empty_label = True, "Choose one"
            field.error_messages["required"] = "Choose the application whose key it is."

    def _require_attribution(self) -> None:
        """As far as there is something to choose: no call of a key that lacks one of the three is taken."""
        chosen = self.initial["application"]
        offered = {
            "application": self.has_applications,
            "environment": chosen is not None and bool(chosen.environments),
            "features": chosen is not None and bool(chosen.features),
        }
        for name in (name for name, is_offered in offered.items() if is_offered):
            self.fields[name].required = True
            self.fields[name].error_messages["required"] = f"{self.actor.organization} takes no call without one: choose it."

    @property
    def attribution_note(self) -> str:
        """Why the three are required; '' where they are not."""
        if not self.actor.organization.attribution_required:
            return ""
        return f"{self.actor.organization} takes no call without application, environment and feature."

    @property
    def takes_no_call(self) -> str:
        """What there is not to choose, so that no call with the key would be taken; '' where there is."""
        if not self.actor.organization.attribution_required:
            return ""
        if not self.has_applications:
            return f"{self.home_shown} and the groups above have no application"
        chosen = self.initial["application"]
        missing = {} if chosen is None else {"environment": not chosen.environments, "feature": not chosen.features}
        absent = " and no ".join(name for name, is_missing in missing.items() if is_missing)
        return f"{chosen} has no {absent}" if absent else ""

    @property
    def full(self) -> Full | None:
        """The policy that allows no key more. Of a member who is not named yet nothing is known."""
        if self.home_shown is None:
            return None
        member = self.actor.user if self.initial["owner"] == "me" else None
        return full_of_keys(self.home_shown, member=member, application=self.initial["application"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.is_for_other and "group" in cleaned and "email" in cleaned:
            group = cleaned["group"]
            cleaned["member"] = members_to_key(group, by=self.actor).filter(email__iexact=cleaned["email"]).first()
            if not self.actor.can(Permission.MANAGE_KEYS, group):
                self.add_error("email", f"You do not manage the keys of {group}.")
            elif cleaned["member"] is None:
                self.add_error("email", f"No other active member of {group} has this address.")
        return cleaned

    @property
    def home(self) -> Group:
        home: Group = self.cleaned_data["group"]
        return home

    @property
    def member(self) -> User | None:
        owner = self.cleaned_data.get("owner")
        other: User | None = self.cleaned_data.get("member")
        return None if owner == "service" else other if owner == "member" else self.actor.user

    @property
    def limits(self) -> KeyLimits:
        window = {"day": "daily_nano_usd", "total": "total_nano_usd"}.get(self.cleaned_data["budget_window"], "monthly_nano_usd")
        return NO_LIMITS._replace(**{window: self.cleaned_data["budget"], "rpm": self.cleaned_data["rpm"]})

    @property
    def rules(self) -> dict[str, list[str]]:
        return {"models": self.cleaned_data["models"], "addresses": self.cleaned_data["addresses"]}


class LimitsForm(Filled):
    """A key's own limits and lists, all at once."""

    daily_nano_usd = DollarField(label="Budget per day")
    weekly_nano_usd = DollarField(label="Budget per week")
    monthly_nano_usd = DollarField(label="Budget per month")
    total_nano_usd = DollarField(label="Budget in total")
    rpm = RateField()
    tpm = CountField("Tokens per minute")
    rpd = CountField("Requests per day")
    parallel = CountField("Parallel calls")
    max_tokens = CountField("Output tokens per call")
    models = ListField("Allowed models", help_text="Left empty: every model. * and ? are wildcards.", placeholder="gpt-5*")
    blocked_models = ListField("Blocked models", help_text="Blocked whatever allows them.", placeholder="*-preview")
    addresses = ListField(
        "Allowed addresses", help_text="IP addresses or networks. Left empty: from anywhere.", placeholder="10.0.0.0/8"
    )

    @classmethod
    def showing(cls, limits: KeyLimits, rules: KeyRules = NO_RULES, data: QueryDict | None = None) -> LimitsForm:
        found = limits._asdict().items()
        shown = {field: field_usd(value) if value and field.endswith("_nano_usd") else value for field, value in found}
        return cls(data, there={**shown, **{kind: "\n".join(names) for kind, names in rules._asdict().items()}})

    @property
    def limits(self) -> KeyLimits:
        return KeyLimits(**{field: self.cleaned_data[field] for field in KeyLimits._fields})

    @property
    def rules(self) -> dict[str, list[str]]:
        return {kind: self.cleaned_data[kind] for kind in KeyRules._fields}


def _choose_from(field: forms.Field, rows: list[Any], queryset: QuerySet[Any]) -> None:
    """A model choice that shows rows already read, and checks against the same set."""
    if isinstance(field, forms.ModelChoiceField):
        field.queryset = queryset
        empty = [("", field.empty_label)] if field.empty_label else []
        field.choices = [*empty, *((row.pk, field.label_from_instance(row)) for row in rows)]
