"""The forms of policies: rows of limits with their units, lists of what is allowed, switches, exceptions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from itertools import zip_longest
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone

from gateway_project.lib.dollars import GROUPED
from gateway_project.lib.filled import Filled
from guardrails import entries
from guardrails.forms import LAST_YEAR, DollarField, ListField
from guardrails.limit_rows import CHOICES, Row, row_of
from guardrails.models import Limit, Policy, Rule
from guardrails.services.policies import DESCRIPTION_LENGTH, MAX_COUNT, MAX_TOKENS, MODEL_LENGTH, MOST, Contents, LimitSpec
from orgs.services.changes import NAME_LENGTH

# A budget may be nothing, however it is written.
NOTHING = re.compile(r"\$?\s*0+(\.0*)?")
AS_ABOVE = (("", "As the policy above says"), ("on", "On"), ("off", "Off"))


class PolicyForm(Filled):
    name = forms.CharField(max_length=NAME_LENGTH, widget=forms.TextInput(attrs={"placeholder": "Team budget"}))
    description = forms.CharField(
        max_length=DESCRIPTION_LENGTH, required=False, widget=forms.TextInput(attrs={"placeholder": "What it is for"})
    )
    models = ListField(
        "Allowed models",
        help_text="Left empty: every model. * and ? stand for any characters.",
        placeholder="gpt-5*\nclaude-sonnet-?",
    )
    blocked_models = ListField(
        "Blocked models", help_text="Blocked whatever allows them. Left empty: none.", placeholder="*-preview"
    )
    providers = ListField("Allowed providers", help_text="Left empty: every provider.", placeholder="openai\nanthropic")
    addresses = ListField(
        "Allowed addresses", help_text="IP addresses or networks. Left empty: from anywhere.", placeholder="10.0.0.0/8\n192.0.2.7"
    )
    members = ListField(
        "Allowed members",
        help_text="E-mail addresses. Left empty: everyone. Service keys have no member and are not concerned.",
        placeholder="ada@example.com",
    )
    clamp = forms.ChoiceField(
        label="Shorten answers to what the budget affords",
        choices=AS_ABOVE,
        required=False,
        help_text="Where a call names no maximum of its own, it gets as many output tokens as are left, not a refusal.",
    )
    clamp_least_tokens = forms.IntegerField(
        label="Shorten to no less than",
        required=False,
        min_value=1,
        max_value=MAX_TOKENS,
        help_text="Where less is left, the call is refused.",
        widget=forms.NumberInput(attrs={"placeholder": "as above"}),
    )
    observed_holds = forms.ChoiceField(
        label="Hold what answers usually need",
        choices=AS_ABOVE,
        required=False,
        help_text="Not the longest possible answer: more calls fit at once, and an answer that outgrows its hold is cut.",
    )
    degrade_percent = forms.IntegerField(
        label="From this share of a budget on",
        required=False,
        min_value=1,
        max_value=100,
        widget=forms.NumberInput(attrs={"placeholder": "never"}),
    )
    degrade_model = forms.CharField(
        label="Calls go to",
        required=False,
        max_length=MODEL_LENGTH,
        widget=forms.TextInput(attrs={"list": "offered-models", "autocomplete": "off", "placeholder": "a cheaper model"}),
    )

    def __init__(
        self, data: QueryDict | None = None, *, there: Mapping[str, Any] | None = None, rows: Iterable[Row] = ()
    ) -> None:
        super().__init__(data, there=there)
        self.rows = list(rows) if data is None else _typed_rows(data)
        self.specs: list[LimitSpec] = []

    @classmethod
    def showing(cls, policy: Policy, data: QueryDict | None = None) -> PolicyForm:
        rules = list(policy.rules.all())
        people = entries.people(rules)
        there: dict[str, Any] = dict.fromkeys(Rule.Kind.values, "") | {
            rule.kind: "\n".join(people.get(entry, entry) if rule.kind == Rule.Kind.MEMBERS else entry for entry in rule.entries)
            for rule in rules
        }
        plain = ("name", "description", "clamp_least_tokens", "degrade_percent", "degrade_model")
        there |= {name: getattr(policy, name) for name in plain}
        there |= {name: {True: "on", False: "off"}.get(getattr(policy, name), "") for name in ("clamp", "observed_holds")}
        order = list(CHOICES)
        rows = sorted((row_of(limit) for limit in policy.limits.all()), key=lambda row: order.index(row.what))
        return cls(data, there=there | {"limits": [row.words for row in rows]}, rows=rows)

    def clean(self) -> dict[str, Any]:
        self.rows = list(self._judged_rows())
        if any(row.error for row in self.rows):
            self.add_error(None, "Some limits need another look.")
        return self.cleaned_data

    def changes(self, name: str) -> bool:
        if name != "limits":
            return super().changes(name)
        return sorted(row_of(Limit(**spec._asdict())).words for spec in self.specs) != sorted(self.there["limits"])

    def refuse_row(self, what: str, message: str) -> bool:
        """A refusal of the service beside its row; false where it is about none."""
        found = any(row.what == what for row in self.rows)
        self.rows = [row._replace(error=message) if row.what == what else row for row in self.rows]
        return found

    def _judged_rows(self) -> Iterator[Row]:
        seen: set[str] = set()
        for row in self.rows:
            error, value = "", None
            try:
                value = _amount(row)
            except forms.ValidationError as wrong:
                error = " ".join(wrong.messages)
            if row.what in seen:
                error = "There is such a limit already."
            seen.add(row.what)
            if value is not None and not error:
                kind, window = row.what.split(" ")
                self.specs.append(LimitSpec(kind, window, value, row.counts_byok and row.is_budget))
            yield row._replace(error=error)

    @property
    def wanted(self) -> Contents:
        """What `create_policy` and `change_policy` take, of a valid form."""
        typed = self.cleaned_data
        choice: dict[str, bool | None] = {"on": True, "off": False}
        return {
            "name": typed["name"],
            "description": typed["description"],
            "limits": self.specs,
            "rules": {kind: typed[kind] for kind in Rule.Kind.values},
            "clamp": choice.get(typed["clamp"]),
            "clamp_least_tokens": typed["clamp_least_tokens"],
            "observed_holds": choice.get(typed["observed_holds"]),
            "degrade_percent": typed["degrade_percent"],
            "degrade_model": typed["degrade_model"],
        }


def _typed_rows(data: QueryDict) -> list[Row]:
    """Rows without a value are rows that nobody filled in."""
    typed = zip_longest(data.getlist("limit"), data.getlist("value"), data.getlist("own_keys"), fillvalue="")
    return [Row(what, text.strip(), counts_byok=own == "on") for what, text, own in typed if text.strip()]


def _amount(row: Row) -> int:
    if row.what not in CHOICES:
        raise forms.ValidationError("Choose what is limited.")
    if row.is_budget and NOTHING.fullmatch(row.text):
        return 0
    field = DollarField() if row.is_budget else forms.IntegerField(min_value=0, max_value=MAX_COUNT)
    # Of a count only commas between thousands are none of its digits: "1,5" is not fifteen.
    is_grouped = not row.is_budget and GROUPED.fullmatch(row.text)
    value: int = field.clean(row.text.replace(",", "") if is_grouped else row.text)
    return value


class OverrideForm(forms.Form):
    """So much more of one limit for one subject, until the end of a day."""

    until = forms.DateField(
        label="Until",
        help_text="The whole day, in the organisation's time zone.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    reason = forms.CharField(max_length=300, required=False, widget=forms.TextInput(attrs={"placeholder": "Who asked, and why"}))

    def __init__(self, data: Any = None, *, limit: Limit) -> None:
        super().__init__(data, initial={"until": timezone.localdate() + timedelta(days=7)})
        budget = limit.kind == Limit.Kind.BUDGET
        amount: forms.Field = (
            DollarField() if budget else forms.IntegerField(min_value=1, max_value=MOST.get(Limit.Kind(limit.kind), MAX_COUNT))
        )
        amount.label, amount.required = "More", True
        amount.widget.attrs["placeholder"] = "50" if budget else "10"
        amount.widget.attrs["autofocus"] = True
        self.fields = {"amount": amount, **self.fields}

    def clean_amount(self) -> int:
        amount: int | None = self.cleaned_data["amount"]
        if amount is None:
            raise forms.ValidationError("How much more?")
        return amount

    def clean_until(self) -> date:
        day: date = self.cleaned_data["until"]
        if not timezone.localdate() <= day or day.year >= LAST_YEAR:
            raise forms.ValidationError("Choose a day that is still to come.")
        return day

    @property
    def ends_at(self) -> datetime:
        """The first moment of the day after."""
        return timezone.make_aware(datetime.combine(self.cleaned_data["until"] + timedelta(days=1), time()))
