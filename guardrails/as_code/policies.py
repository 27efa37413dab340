"""Policies, but those of one key's own, and what they are bound to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway_project.lib.money import BadAmount, exact_usd, parse_usd
from guardrails import displaced, entries, offered
from guardrails.as_code.declarations import (
    BindingDeclaration,
    BudgetDeclaration,
    BudgetsDeclaration,
    LimitsDeclaration,
    PolicyDeclaration,
    RulesDeclaration,
)
from guardrails.as_code.faults import Several, all_of
from guardrails.as_code.kinds import Entry, Kind, given
from guardrails.as_code.tree import ApplicationKind, GroupKind, key_of_path, path_of
from guardrails.coherence import unknown_entries
from guardrails.models import Binding, Limit, Policy, Rule
from guardrails.services.bindings import bind
from guardrails.services.policies import SWITCHES, LimitSpec, change_policy, create_policy
from guardrails.subjects import Subject
from orgs.actor import ABOVE, Actor
from orgs.errors import Refused
from orgs.models import ApiKey
from orgs.services.changes import one_line

EACH = {"self": "", "members": ", for each member below", "keys": ", for each key below"}
SUBJECTS = ("group", "member", "application", "key")


class PolicyKind(Kind[PolicyDeclaration, Policy]):
    word, section, form = "policy", "policies", PolicyDeclaration

    def found(self) -> Iterable[Policy]:
        named = Policy.objects.filter(organization=self.by.organization, dedicated=False)
        return list(named.prefetch_related("limits", "rules").order_by("name", "pk"))

    def read(self, row: Policy) -> PolicyDeclaration:
        switches = {name: getattr(row, name) for name in SWITCHES}
        rules = _rules_of(row)
        return PolicyDeclaration(name=row.name, description=row.description, limits=_limits_of(row), rules=rules, **switches)

    def key(self, declared: PolicyDeclaration) -> str:
        return one_line(declared.name).lower()

    def create(self, entry: Entry[PolicyDeclaration]) -> Policy:
        values = _as_the_service_takes_them(given(entry.declared), RulesDeclaration())
        return create_policy(self.by.organization, by=self.by, **{"limits": (), **values})

    def change(self, row: Policy, wanted: dict[str, Any]) -> Policy:
        return change_policy(row, by=self.by, **_as_the_service_takes_them(wanted, _rules_of(row)))

    def place(self, field: str) -> str:
        kind, _, window = field.partition(" ")
        if kind in LimitsDeclaration.__struct_fields__:
            return f"limits.{kind}.{window}" if kind == Limit.Kind.BUDGET else f"limits.{kind}"
        return f"rules.{field}" if field.partition("[")[0] in RulesDeclaration.__struct_fields__ else super().place(field)


class BindingKind(Kind[BindingDeclaration, Binding]):
    """There is nothing to change about one: it is there or not. Those to what is archived or deleted are left out."""

    word, section, form = "binding", "bindings", BindingDeclaration

    def __init__(self, by: Actor, groups: GroupKind, applications: ApplicationKind, policies: PolicyKind) -> None:
        self.groups, self.applications, self.policies = groups, applications, policies
        super().__init__(by)
        self.stood = {row.pk for row in self.rows.values()}

    def found(self) -> Iterable[Binding]:
        bindings = Binding.objects.filter(organization=self.by.organization, policy__dedicated=False)
        related = bindings.select_related("policy", f"group__{ABOVE}", "member", "application", "api_key")
        return [row for row in related.order_by("policy__name", "pk") if self._in_use(row)]

    def _in_use(self, row: Binding) -> bool:
        if row.group:
            return row.group.parent is None or key_of_path(path_of(row.group)) in self.groups.rows
        if row.application:
            return row.application.slug in self.applications.rows
        return row.api_key is None or row.api_key.revoked_at is None

    def read(self, row: Binding) -> BindingDeclaration:
        reach: dict[str, Any] = {} if row.reach == Binding.Reach.SELF else {"reach": row.reach}
        return BindingDeclaration(
            policy=row.policy.name,
            group=path_of(row.group) if row.group else "",
            member=row.member.email if row.member else "",
            application=row.application.slug if row.application else "",
            key=row.api_key.public_id if row.api_key else "",
            **reach,
        )

    def key(self, declared: BindingDeclaration) -> str:
        place = _place(declared)
        return f"{one_line(declared.policy).lower()} {place.lower() if declared.group else place}"

    def title(self, row: Binding) -> str:
        return f"{row.policy.name} {_place(self.read(row))}"

    def create(self, entry: Entry[BindingDeclaration]) -> Binding:
        declared = entry.declared
        policy, subject = all_of(lambda: self._policy(declared), lambda: self._subject(declared))
        lost = displaced.displaced_by(policy, subject=subject, reach=declared.reach, organization=self.by.organization)
        binding = bind(policy, subject=subject, reach=declared.reach, by=self.by)
        whom = displaced.whom_words(_named(declared)[1], reach=declared.reach)
        # What the file itself binds has not applied to anybody yet.
        self.notes[entry.key] = displaced.words([one for one in lost if one.pk in self.stood], whom=whom)
        return binding

    def _policy(self, declared: BindingDeclaration) -> Policy:
        policy = self.policies.made(one_line(declared.policy).lower())
        if policy is None:
            raise Refused(f"There is no policy “{declared.policy[:120]}”.", field="policy")
        return policy

    def _subject(self, declared: BindingDeclaration) -> Subject:
        if declared.group:
            return self.groups.named(declared.group)
        if declared.member and (member := self.person(declared.member, field="member")):
            return member
        if declared.application:
            application = self.applications.made(declared.application)
            if application is None:
                raise Refused(f"There is no application “{declared.application[:60]}”.", field="application")
            return application
        key = ApiKey.objects.filter(organization=self.by.organization, public_id=declared.key, revoked_at=None).first()
        if key is None:
            raise Refused(f"There is no API key “{declared.key[:20]}”: write its public id, which follows gh_sk_.", field="key")
        return key


def _place(declared: BindingDeclaration) -> str:
    field, subject = _named(declared)
    return f"on {field} {subject}{EACH[declared.reach]}"


def _named(declared: BindingDeclaration) -> tuple[str, str]:
    """What kind of subject, and which. Raises Refused."""
    named = [field for field in SUBJECTS if getattr(declared, field)]
    if len(named) != 1:
        raise Refused(f"Name one of {', '.join(SUBJECTS)}, and no more.")
    subject = one_line(getattr(declared, named[0]))
    return named[0], subject.lower() if named == ["member"] else subject


def _limits_of(policy: Policy) -> LimitsDeclaration:
    rows = list(policy.limits.all())
    budgets = {
        row.window: BudgetDeclaration(usd=Decimal(exact_usd(row.value)), counts_byok=row.counts_byok)
        for row in rows
        if row.kind == Limit.Kind.BUDGET
    }
    counts: dict[str, Any] = {row.kind: row.value for row in rows if row.kind != Limit.Kind.BUDGET}
    return LimitsDeclaration(budget=BudgetsDeclaration(**budgets) if budgets else UNSET, **counts)


def _rules_of(policy: Policy) -> RulesDeclaration:
    rules = list(policy.rules.all())
    people = entries.people(rules)
    return RulesDeclaration(**{rule.kind: [_entry(rule, entry, people) for entry in rule.entries] for rule in rules})


def _entry(rule: Rule, entry: str, people: Mapping[str, str]) -> str:
    return people.get(entry, entry) if rule.kind == Rule.Kind.MEMBERS else entry


def _as_the_service_takes_them(values: dict[str, Any], rules_now: RulesDeclaration) -> dict[str, Any]:
    """Raises Refused, also for names that nothing bears: in a file they are slips. Those that stand there already stay."""
    if "limits" in values:
        values["limits"] = _specs(values["limits"])
    if "rules" in values:
        wanted = msgspec.structs.asdict(values["rules"])
        _refuse_unknown(wanted, msgspec.structs.asdict(rules_now))
        values["rules"] = wanted
    if values.get("degrade_model"):
        _refuse_unknown({"models": [values["degrade_model"]]}, {}, field="degrade_model")
    return values


def _specs(limits: LimitsDeclaration) -> list[LimitSpec]:
    budgets = {} if isinstance(limits.budget, UnsetType) else given(limits.budget)
    counts = {kind: value for kind, value in given(limits).items() if kind != Limit.Kind.BUDGET}
    return [
        *(
            LimitSpec(Limit.Kind.BUDGET, window, _nano(budget.usd, window), budget.counts_byok)
            for window, budget in budgets.items()
        ),
        *(LimitSpec(kind, Limit.WINDOWS[kind][0], value) for kind, value in counts.items()),
    ]


def _nano(usd: Decimal, window: str) -> int:
    try:
        return parse_usd(str(usd))
    except BadAmount as error:
        raise Refused(f"{error}.", field=f"{Limit.Kind.BUDGET} {window}") from error


def _refuse_unknown(wanted: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]], *, field: str = "") -> None:
    """A wildcard may be meant for what is still to come; `<provider>/<its own name>` is in no catalogue."""
    known = offered.models()
    providers = {provider for model in known for provider in model.providers}
    wrong = []
    for kind, entry in unknown_entries(wanted, known):
        reachable = kind != Rule.Kind.PROVIDERS and "/" in entry and entry.partition("/")[0] in providers
        if not (reachable or "*" in entry or "?" in entry or entry in now.get(kind, ())):
            what = "provider" if kind == Rule.Kind.PROVIDERS else "model"
            place = field or f"{kind}[{list(wanted[kind]).index(entry)}]"
            wrong.append(Refused(f"“{entry[:200]}” names no {what} that is offered now.", field=place))
    if wrong:
        raise Several(wrong)
