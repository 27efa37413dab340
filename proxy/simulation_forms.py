"""The form of a new simulation: what to try, on whom, over which days."""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

from django import forms
from django.http import QueryDict

from guardrails import windows
from guardrails.entries import NAME, typed
from guardrails.forms import DollarField
from guardrails.models import Policy
from guardrails.policy_selectors import policies_visible_to
from orgs.actor import Actor
from orgs.errors import Refused
from orgs.models import Application, Group
from proxy.models import Simulation
from proxy.simulating import spans
from proxy.simulating.proposal import Limit, Proposal, Rule, Target, TargetKind
from proxy.simulating.wording import title
from proxy.simulation_services import Wanted, guarded_groups, period_between, period_of, span_to_begin_with

BUDGETS: tuple[windows.Kind, ...] = (*windows.BOUNDED, "total")
# Field → (window, label) of a count.
COUNTS = {
    "rpm": ("minute", "Requests per minute"),
    "tpm": ("minute", "Tokens per minute"),
    "rpd": ("day", "Requests per day"),
    "parallel": ("now", "Calls at the same time"),
    "max_tokens": ("call", "Output tokens per call"),
}
LISTS = {"models": "Allowed models", "blocked_models": "Blocked models", "providers": "Allowed providers"}
TARGETS: tuple[TargetKind, ...] = ("group", "members", "keys", "application")
MOST = 10**12
MOST_ENTRIES = 200
Span = Simulation.Span


class CountField(forms.IntegerField):
    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, min_value=1, max_value=MOST, **options)
        self.widget.attrs.update({"placeholder": "No limit"})


class ListField(forms.CharField):
    """Names of models or providers (`of`), one per line or with commas between → a tuple."""

    def __init__(self, *, of: str = "model", **options: Any) -> None:
        super().__init__(required=False, max_length=20_000, **options)
        self.of = of
        self.widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "placeholder": f"Any {of}"})

    def clean(self, value: Any) -> Any:
        entries = typed(super().clean(value))
        if len(entries) > MOST_ENTRIES:
            raise forms.ValidationError(f"A list has at most {MOST_ENTRIES} entries.")
        if wrong := [entry for entry in entries if not NAME.fullmatch(entry)]:
            raise forms.ValidationError(f"“{wrong[0][:80]}” is not the name of a {self.of}; * and ? stand for any characters.")
        return tuple(entries)


class Choice(NamedTuple):
    """A row of the tree: how deep it stands below the first, and which of its boxes are ticked."""

    group: Group
    depth: int
    is_root: bool
    itself: bool
    members: bool
    keys: bool


class SimulationForm(forms.Form):
    source = forms.ChoiceField(
        label="What to try",
        choices=[("policy", "An existing policy"), ("typed", "Limits typed here")],
        widget=forms.RadioSelect,
        initial="typed",
    )
    policy: forms.ModelChoiceField[Policy] = forms.ModelChoiceField(queryset=None, required=False, empty_label="Choose a policy")
    rpm, tpm, rpd, parallel, max_tokens = (CountField(label=label) for _, label in COUNTS.values())
    models = ListField(label=LISTS["models"], help_text="One per line; * stands for any characters. Nothing typed: every model.")
    blocked_models = ListField(label=LISTS["blocked_models"], help_text="What stands here is refused, whatever is allowed.")
    providers = ListField(
        of="provider", label=LISTS["providers"], help_text="A call passes where one of them could have taken it at the time."
    )
    group, members, keys, application = (
        forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple) for _ in range(4)
    )
    span = forms.ChoiceField(label="Period", choices=Span.choices, widget=forms.RadioSelect)
    first = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"))
    last = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"))
    name = forms.CharField(
        max_length=120, required=False, label="Name", widget=forms.TextInput(attrs={"placeholder": "Made from the limits"})
    )

    # Those that were typed, once they are checked.
    days: spans.Span

    def __init__(self, data: QueryDict | None = None, *, actor: Actor, asked: QueryDict | None = None) -> None:
        """`asked`: what the address asks for, `?policy=…&group=…`; a form that was sent goes by what was sent."""
        super().__init__(data)
        self.actor = actor
        for kind in BUDGETS:
            self.fields[f"budget_{kind}"] = DollarField(label="Budget in total" if kind == "total" else f"Budget per {kind}")
        self.groups = guarded_groups(actor)
        ids = [(str(group.pk), group.name) for group in self.groups]
        homes = Application.objects.filter(group__in=[group.pk for group in self.groups], archived_at=None)
        self._choose("application", [(str(one.pk), one.name) for one in homes.order_by("name")])
        for name in ("group", "members", "keys"):
            self._choose(name, ids)
        field = self.fields["policy"]
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = policies_visible_to(actor)
            named = field.queryset.prefetch_related(None).values_list("pk", "name")
            field.choices = [("", field.empty_label), *named]
        if not self.is_bound:
            self._begin_with(asked or QueryDict())

    def _choose(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        if isinstance(field, forms.MultipleChoiceField):
            field.choices = choices

    def _begin_with(self, asked: QueryDict) -> None:
        self.initial["span"] = span_to_begin_with(self.actor.organization)
        if asked.get("policy"):
            self.initial.update(source="policy", policy=asked["policy"])
        for name in TARGETS:
            self.initial[name] = asked.getlist(name)

    @property
    def budgets(self) -> list[forms.BoundField]:
        return [self[f"budget_{kind}"] for kind in BUDGETS]

    @property
    def counts(self) -> list[forms.BoundField]:
        return [self[name] for name in COUNTS]

    @property
    def tree(self) -> list[Choice]:
        ticked = {name: set(self[name].value() or []) for name in ("group", "members", "keys")}
        top = min((group.level for group in self.groups), default=0)
        return [
            Choice(group, group.level - top, group.level == 0, *(str(group.pk) in ticked[name] for name in ticked))
            for group in self.groups
        ]

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        if found.get("source") == "policy" and not found.get("policy") and "policy" not in self.errors:
            self.add_error("policy", "Choose the policy to try.")
        if found.get("span") == Span.CUSTOM:
            self._check_days(found.get("first"), found.get("last"))
        if not self._targets() and not self.errors:
            self.add_error(None, "Choose whom it applies to: the organisation, a group, its members or keys, or an application.")
        return found

    def _check_days(self, first: date | None, last: date | None) -> None:
        for name, day in (("first", first), ("last", last)):
            if day is None and name not in self.errors:
                self.add_error(name, "Choose a day.")
        if first is not None and last is not None:
            try:
                self.days = period_between(first, last, organization=self.actor.organization)
            except Refused as refused:
                self.add_error(refused.field, refused.message)

    def _targets(self) -> tuple[Target, ...]:
        return tuple(Target(kind, int(pk)) for kind in TARGETS for pk in self.cleaned_data.get(kind, []))

    @property
    def wanted(self) -> Wanted:
        """Of a form that is valid."""
        found = self.cleaned_data
        limits, rules = self._limits(), self._rules()
        policy = found["policy"] if found["source"] == "policy" else None
        period = period_of(found["span"], organization=self.actor.organization) or self.days
        targets = self._targets()
        made_up = policy.name if policy else title(Proposal(limits, rules, targets), longest=60)
        return Wanted(found["name"] or made_up, policy, limits, rules, targets, found["span"], period)

    def _limits(self) -> tuple[Limit, ...]:
        found = self.cleaned_data
        budgets = [Limit("budget", kind, found[f"budget_{kind}"]) for kind in BUDGETS if found.get(f"budget_{kind}")]
        counts = [Limit(name, window, found[name]) for name, (window, _) in COUNTS.items() if found.get(name)]  # type: ignore[arg-type]
        return (*budgets, *counts)

    def _rules(self) -> tuple[Rule, ...]:
        return tuple(Rule(name, self.cleaned_data[name]) for name in LISTS if self.cleaned_data.get(name))  # type: ignore[arg-type]
