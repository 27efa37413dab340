"""What the pages of policies show, put together for their templates: words, rows and links."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from gateway_project.lib.money import display_usd, limit_usd
from guardrails import entries
from guardrails.in_force import InForce
from guardrails.limit_rows import CHOICES
from guardrails.limits import WINDOW_WORDS
from guardrails.models import Binding, Limit, Override, Policy, Rule
from guardrails.policy_selectors import Use
from guardrails.subjects import WORDS, Found, Subject, column_of, described, token_of
from orgs.actor import Actor
from orgs.models import Group, User
from orgs.permissions import Permission

SHORT = {
    "rpm": "requests/min",
    "tpm": "tokens/min",
    "rpd": "requests/day",
    "parallel": "parallel calls",
    "max_tokens": "tokens/call",
    "keys": "API keys",
    "seats": "members",
}
# Of exactly one.
SHORT_ONE = {
    "rpm": "request/min",
    "tpm": "token/min",
    "rpd": "request/day",
    "parallel": "parallel call",
    "max_tokens": "token/call",
    "keys": "API key",
    "seats": "member",
}
REACH_WORDS = {"members": "each member below, by default", "keys": "each key below, by default"}


class PolicyRow(NamedTuple):
    policy: Policy
    url: str
    limits: list[str]
    rules: list[str]
    bound: list[str]
    more_bound: int
    tightest: Use | None
    # Where there is none: why.
    no_use: str


class BindingRow(NamedTuple):
    binding: Binding
    found: Found
    reach: str
    uses: list[Meter]
    menu: list[MenuEntry]
    may_manage: bool


class Meter(NamedTuple):
    """One budget of one subject as a bar."""

    label: str
    use: Use


class MenuEntry(NamedTuple):
    label: str
    icon: str
    url: str


class OverrideRow(NamedTuple):
    override: Override
    words: str
    subject: str
    may_manage: bool


class Rulelist(NamedTuple):
    label: str
    entries: list[str]
    blocks: bool


def policy_url(policy: Policy, *, org: str) -> str:
    return reverse("policies:policy", kwargs={"org": org, "policy_id": policy.pk})


def limit_words(kind: str, window: str, value: int) -> str:
    """ "$25.00 per month", "60 requests/min"."""
    if kind == Limit.Kind.BUDGET:
        return f"{limit_usd(value)} {Limit.Window(window).label}"
    return f"{value:,} {(SHORT_ONE if value == 1 else SHORT)[kind]}"


def words_of_limits(policy: Policy) -> list[str]:
    return words_of(policy.limits.all())


def words_of(limits: Iterable[Limit]) -> list[str]:
    order = list(CHOICES)
    placed = sorted(limits, key=lambda limit: order.index(f"{limit.kind} {limit.window}"))
    own = ", own keys count"
    return [f"{limit_words(limit.kind, limit.window, limit.value)}{own if limit.counts_byok else ''}" for limit in placed]


def policy_rows(
    policies: Iterable[Policy], bindings: Iterable[Binding], uses: Mapping[int, list[Use]], *, org: str
) -> list[PolicyRow]:
    by_policy: dict[int, list[Binding]] = {}
    for binding in bindings:
        by_policy.setdefault(binding.policy_id, []).append(binding)
    return [_policy_row(policy, by_policy.get(policy.pk, []), uses, org=org) for policy in policies]


def _policy_row(policy: Policy, bound: list[Binding], uses: Mapping[int, list[Use]], *, org: str) -> PolicyRow:
    own = [use for binding in bound for use in uses.get(binding.pk, [])]
    rule_kinds: list[str] = getattr(policy, "rule_kinds", [])
    return PolicyRow(
        policy=policy,
        url=policy_url(policy, org=org),
        limits=words_of_limits(policy),
        rules=[words.lower() for kind, words in Rule.Kind.choices if kind in rule_kinds],
        bound=[_name(binding) for binding in bound[:3]],
        more_bound=max(0, len(bound) - 3),
        tightest=max(own, key=_share, default=None),
        no_use=_no_use(policy, bound),
    )


def _no_use(policy: Policy, bound: list[Binding]) -> str:
    """A default is counted for everyone it falls to: one figure would be nobody's."""
    if not any(limit.kind == Limit.Kind.BUDGET for limit in policy.limits.all()):
        return "no budget in it"
    if any(binding.reach != Binding.Reach.SELF for binding in bound):
        return "counted for each apart"
    return "nothing spent under it" if bound else "governs nobody yet"


def _share(use: Use) -> tuple[float, int]:
    return (use.spent / use.value if use.value else 1.0, use.spent)


def _name(binding: Binding) -> str:
    name = binding.subject.display_name if isinstance(binding.subject, User) else str(binding.subject)
    return name if binding.reach == Binding.Reach.SELF else f"{binding.reach} of {name}"


def binding_rows(
    bindings: Iterable[Binding], uses: Mapping[int, list[Use]], homes: Mapping[int, list[Group]], *, actor: Actor
) -> list[BindingRow]:
    """`homes`: the groups of members, by their id."""
    rows = []
    for binding in bindings:
        subject = binding.subject
        nodes = homes.get(subject.pk, []) if isinstance(subject, User) else [binding.group or _home(binding)]
        found = described(subject, {subject.pk: [node.name for node in nodes if node]})
        meters = [Meter(WINDOW_WORDS[use.limit.window], use) for use in uses.get(binding.pk, [])]
        may = bool(nodes) and all(node and actor.can(Permission.MANAGE_GUARDRAILS, node) for node in nodes)
        menu = _menu(binding, found, org=actor.organization.slug) if may and binding.reach == Binding.Reach.SELF else []
        rows.append(BindingRow(binding, found, REACH_WORDS.get(binding.reach, ""), meters, menu, may))
    return rows


def _menu(binding: Binding, found: Found, *, org: str) -> list[MenuEntry]:
    """More of each limit for a time, then what can be reset."""
    at = {"org": org, "policy_id": binding.policy_id}
    limits = sorted(binding.policy.limits.all(), key=lambda limit: list(CHOICES).index(f"{limit.kind} {limit.window}"))
    addresses = [(limit, f"?limit={limit.pk}&subject={found.token}") for limit in limits]
    more = [
        MenuEntry(f"More: {_lower(limit)}", "hourglass", reverse("policies:override", kwargs=at) + query)
        for limit, query in addresses
    ]
    resets = [
        MenuEntry(f"Reset: {_lower(limit)}", "refresh", reverse("policies:reset", kwargs=at) + query)
        for limit, query in addresses
        if limit.kind == Limit.Kind.BUDGET
    ]
    return more + resets


def _lower(limit: Limit) -> str:
    label = CHOICES[f"{limit.kind} {limit.window}"]
    return label[0].lower() + label[1:]


def _home(binding: Binding) -> Group | None:
    thing = binding.api_key or binding.application
    return thing.group if thing else None


def override_rows(overrides: Iterable[Override], homes: Mapping[int, list[Group]], *, actor: Actor) -> list[OverrideRow]:
    return [OverrideRow(one, override_words(one), str(one.subject), _manages(one, homes, actor)) for one in overrides]


def _manages(one: Override, homes: Mapping[int, list[Group]], actor: Actor) -> bool:
    thing = one.api_key or one.application
    nodes = homes.get(one.member_id, []) if one.member_id else [one.group or (thing.group if thing else None)]
    return bool(nodes) and all(node and actor.can(Permission.MANAGE_GUARDRAILS, node) for node in nodes)


def override_words(one: Override) -> str:
    limit = one.limit
    if one.kind == Override.Kind.RESET:
        return f"{CHOICES[f'{limit.kind} {limit.window}']}: {display_usd(one.amount)} forgiven"
    return f"{limit_words(limit.kind, limit.window, one.amount)} more"


def rule_lists(policy: Policy) -> list[Rulelist]:
    rules = [rule for rule in policy.rules.all() if rule.entries]
    people = entries.people(rules)
    order = list(Rule.Kind.values)
    return [
        Rulelist(
            rule.get_kind_display(),
            [people.get(entry, entry) if rule.kind == Rule.Kind.MEMBERS else entry for entry in rule.entries],
            rule.kind == Rule.Kind.BLOCKED_MODELS,
        )
        for rule in sorted(rules, key=lambda rule: order.index(rule.kind))
    ]


def taken_off(displaced: Iterable[Binding]) -> list[tuple[str, str]]:
    """(name of the policy, what no longer applies of it) of each, once."""
    found = {one.policy_id: one.policy for one in displaced}
    return [
        (policy.name, ", ".join([*words_of_limits(policy), *(one.label.lower() for one in rule_lists(policy))]) or "no limits")
        for policy in found.values()
    ]


def switch_words(policy: Policy) -> list[str]:
    """What is set, in sentences."""
    found = []
    if policy.clamp is not None:
        found.append(
            "Answers are shortened to what the budget affords." if policy.clamp else "Answers are never shortened to fit."
        )
    if policy.clamp_least_tokens:
        found.append(f"Not below {policy.clamp_least_tokens:,} token{'' if policy.clamp_least_tokens == 1 else 's'}.")
    if policy.observed_holds is not None:
        found.append(
            "Calls hold what answers usually need." if policy.observed_holds else "Calls hold the longest possible answer."
        )
    if policy.degrade_percent:
        found.append(f"From {policy.degrade_percent}% of a budget on calls go to {policy.degrade_model}.")
    return found


def applied_rows(applied: Iterable[InForce]) -> list[dict[str, Any]]:
    return [
        {
            "policy": one.policy,
            "limits": words_of_limits(one.policy),
            "rules": rule_lists(one.policy),
            "subject": one.subject.display_name if isinstance(one.subject, User) else str(one.subject),
            "word": WORDS[column_of(one.subject)],
            "given_by": one.given_by,
        }
        for one in applied
    ]


# --- undo -----------------------------------------------------------------------------------------


def with_undo(text: str, *, url: str, **values: str) -> SafeString:
    """A message with a button that takes the change back. The page's own token comes with htmx."""
    button = '{} <button type="button" class="btn btn-sm ms-2" hx-post="{}" hx-vals="{}" hx-swap="none">Undo</button>'
    return format_html(button, text, url, json.dumps(values))


def bind_values(binding: Binding) -> dict[str, str]:
    """What was bound a moment ago is bound again without a question."""
    confirm = bind_confirmation(binding.subject, binding.reach)
    return {"subject": token_of(binding.subject), "reach": binding.reach, "confirm": confirm}


def bind_confirmation(subject: Subject, reach: str) -> str:
    """A form that carries it has been asked about this subject and this reach."""
    return f"{token_of(subject)} {reach}"
