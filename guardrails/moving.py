"""What moving a group changes for limits and rules: which apply from the next call on, which no longer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Q, Subquery, Sum
from django.db.models.functions import JSONObject
from django.utils import timezone

from gateway_project.lib.money import display_usd, limit_usd
from guardrails import coherence, offered
from guardrails.coherence import Placed, Shape
from guardrails.in_force import nearest
from guardrails.models import Binding, Limit, Override, Rule
from guardrails.policy_pages import switch_words, words_of
from guardrails.policy_selectors import Use, budgets_used
from guardrails.services.overrides import running
from guardrails.subjects import counter_of
from orgs.actor import Actor
from orgs.consequences import Consequence, left_and_joined
from orgs.errors import Refused
from orgs.models import Group, Organization
from orgs.permissions import Permission
from orgs.selectors import within

Reach = Binding.Reach
MOST_ENTRIES = 3
OF_MODELS = {Rule.Kind.MODELS.value, Rule.Kind.BLOCKED_MODELS.value}


class Bound(NamedTuple):
    """A policy on a group. `more` and `forgiven`: what exceptions add to a limit there now, and what resets forgave."""

    binding: Binding
    limits: list[Limit]
    rules: dict[str, list[str]]
    more: dict[tuple[int, str], int]
    forgiven: dict[tuple[int, str], int]

    @property
    def is_of_group(self) -> bool:
        return self.binding.reach == Reach.SELF

    @property
    def shape(self) -> Shape:
        limits = {(limit.kind, limit.window): limit.value for limit in self.limits}
        return Shape(self.binding.policy.name, limits, self.rules, self.binding.policy.degrade_model)


def changes_of_move(group: Group, to: Group, by: Actor) -> list[Consequence]:
    """At most three statements. What a place has spent is told to who may see its usage."""
    old, new = group.path()[:-1], to.path()
    now = timezone.now()
    moved, bound = _bound(group, [*old, *new], now=now)
    left, joined = left_and_joined(group, to)
    coming = _own(bound, joined)
    told = _own(bound, [node for node in joined if by.can(Permission.VIEW_USAGE, node)])
    uses = _uses(told, organization=group.organization, now=now)
    notes = [
        *_oddities(moved, _own(bound, old), _own(bound, new)),
        *_approvals(group, left),
        "What was spent so far stays with the groups it was spent in: only later calls count in the new place.",
    ]
    return [
        *(Consequence("ended", _words(one)) for one in _own(bound, left)),
        *(Consequence("now", f"{_words(one)}{_spent(uses.get(one.binding.pk, []))}") for one in coming),
        *_defaults(bound, [*old, group], [*new, group]),
        *(Consequence("note", note) for note in notes),
    ]


def refuse_escape(group: Group, to: Group, by: Actor) -> None:
    """Leaving a place ends its policies for the group as taking them off would, so it needs the same permission there.

    A default of a group above both places ends, too, where the new place has one of its own: but whoever manages guardrails
    at the group could put one there that takes its place, without any move. Raises Refused.
    """
    old, new = [*group.path()[:-1], group], [*to.path(), group]
    foreign = {node.pk for node in old if not by.can(Permission.MANAGE_GUARDRAILS, node)}
    if not foreign:
        return
    here = Binding.objects.filter(group__in={node.pk for node in (*old, *new)}).select_related("policy", "group")
    bindings = list(here.order_by("group__level", "pk"))
    left = foreign.difference(node.pk for node in new)
    replaced = set() if by.can(Permission.MANAGE_GUARDRAILS, group) else _replaced(bindings, old, new)
    for found in bindings:
        if found.group_id in left or (found.group_id in foreign and found.pk in replaced):
            raise Refused(
                f"In {to}, {group} would no longer be governed by “{found.policy}” of {found.group}. Only who may manage"
                f" guardrails at {found.group} can move it out.",
                field="to",
            )


def _replaced(bindings: Sequence[Binding], old: Sequence[Group], new: Sequence[Group]) -> set[int]:
    """Defaults that count on the old path and not on the new one."""
    reaches = (Reach.MEMBERS, Reach.KEYS)
    return {one.pk for reach in reaches for one in nearest(bindings, old, reach) if one not in nearest(bindings, new, reach)}


def _bound(group: Group, above: Sequence[Group], *, now: datetime) -> tuple[list[Bound], list[Bound]]:
    """Those in the moved subtree, and those on either path with the moved group's own; by one statement."""
    path = {node.pk for node in [*above, group]}
    limits = Limit.objects.filter(policy=OuterRef("policy")).order_by("pk")
    columns = {name: name for name in ("pk", "kind", "window", "value", "counts_byok")}
    sums = {"more": _exceptions(Override.Kind.EXTRA, now), "forgiven": _exceptions(Override.Kind.RESET, now)}
    rules = Rule.objects.filter(policy=OuterRef("policy")).order_by("pk")
    found = Binding.objects.filter(Q(group__in=path) | within([group], field="group"), organization=group.organization_id)
    bindings = found.annotate(
        limit_rows=ArraySubquery(limits.values(row=JSONObject(**columns, **sums))),
        rule_rows=ArraySubquery(rules.values(row=JSONObject(kind="kind", entries="entries"))),
    )
    every = [_read(binding) for binding in sorted(bindings.select_related("policy", "group"), key=lambda binding: binding.pk)]
    ids = {node.pk for node in above}
    return (
        [one for one in every if one.binding.group_id not in ids],
        [one for one in every if one.binding.group_id in path],
    )


def _exceptions(kind: str, now: datetime) -> Subquery:
    """Of one limit, for the group that the policy is bound to."""
    here = Override.objects.filter(
        running(now), kind=kind, starts_at__lte=now, limit=OuterRef("pk"), group=OuterRef(OuterRef("group"))
    )
    return Subquery(here.order_by().values("limit").annotate(total=Sum("amount")).values("total"))


def _read(binding: Binding) -> Bound:
    """Of a row with its two lists."""
    counter = counter_of(binding.subject)
    limits, more, forgiven = [], {}, {}
    for row in binding.limit_rows:  # type: ignore[attr-defined]
        place = (row["pk"], counter)
        more[place], forgiven[place] = row.pop("more") or 0, row.pop("forgiven") or 0
        limits.append(Limit(**row))
    rules = {row["kind"]: row["entries"] for row in binding.rule_rows if row["entries"]}  # type: ignore[attr-defined]
    return Bound(binding, limits, rules, more, forgiven)


def _own(bound: Iterable[Bound], nodes: Sequence[Group]) -> list[Bound]:
    ids = {node.pk for node in nodes}
    return [one for one in bound if one.is_of_group and one.binding.group_id in ids]


def _words(one: Bound) -> str:
    """ "Team" on engineering: $25.00 per month, 60 requests/min, allowed models: gpt-4o*."""
    policy = one.binding.policy
    lists = [f"{Rule.Kind(kind).label.lower()}{_entries(kind, one.rules[kind])}" for kind in Rule.Kind if kind in one.rules]
    switches = [f"{words[0].lower()}{words[1:].rstrip('.')}" for words in switch_words(policy)]
    said = ", ".join([*words_of(one.limits), *lists, *switches])
    return f"“{policy}” on {one.binding.group}{f': {said}' if said else ''}"


def _entries(kind: str, entries: Sequence[str]) -> str:
    """People are kept by their ids: of them only how many they are is said."""
    if kind == Rule.Kind.MEMBERS:
        return f" ({len(entries)})"
    more = f" and {len(entries) - MOST_ENTRIES} more" if len(entries) > MOST_ENTRIES else ""
    return f" ({', '.join(entries[:MOST_ENTRIES])}{more})"


def _uses(coming: Sequence[Bound], *, organization: Organization, now: datetime) -> dict[int, list[Use]]:
    wanted = [
        (one.binding.pk, limit, one.binding.subject) for one in coming for limit in one.limits if limit.kind == Limit.Kind.BUDGET
    ]
    more = {place: amount for one in coming for place, amount in one.more.items()}
    forgiven = {place: amount for one in coming for place, amount in one.forgiven.items()}
    return budgets_used(wanted, more, forgiven, organization=organization, now=now)


def _spent(uses: Iterable[Use]) -> str:
    """How much of the budgets is gone already."""
    gone = [f"{display_usd(use.spent)} of {limit_usd(use.value)}" for use in uses]
    return f" ({', '.join(gone)} spent)" if gone else ""


def _defaults(bound: Sequence[Bound], old: Sequence[Group], new: Sequence[Group]) -> list[Consequence]:
    """The nearest group's defaults count, so one change of place may swap all of them."""
    bindings, by_id = [one.binding for one in bound], {one.binding.pk: one for one in bound}
    found = []
    for reach, whom in ((Reach.MEMBERS, "member"), (Reach.KEYS, "key")):
        before, after = nearest(bindings, old, reach), nearest(bindings, new, reach)
        ended = [by_id[one.pk] for one in before if one not in after]
        begun = [by_id[one.pk] for one in after if one not in before]
        found += [Consequence("ended", f"{_words(one)}, for each {whom} by default") for one in ended]
        found += [Consequence("now", f"{_words(one)}, for each {whom} by default") for one in begun]
    return found


def _oddities(moved: Iterable[Bound], old: Iterable[Bound], new: Iterable[Bound]) -> list[str]:
    """What would be odd about the policies of the moved groups in the new place and is not in the old one."""
    here = [one for one in moved if one.is_of_group]
    known = offered.named() if any(OF_MODELS & one.rules.keys() for one in here) else []
    placed = [Placed(one.shape, str(one.binding.group)) for one in here]

    def warnings(above: Iterable[Bound]) -> list[str]:
        places = [Placed(one.shape, str(one.binding.group)) for one in above]
        return [words for own in placed for words in coherence.at_a_place(own, above=places, below=[], offered=known)]

    before = set(warnings(old))
    return [words for words in dict.fromkeys(warnings(new)) if words not in before]


def _approvals(group: Group, left: Sequence[Group]) -> list[str]:
    """They are given at a group, for keys at and below it."""
    if group.organization.approval_since is None or not left:
        return []
    names = " and ".join(filter(None, [", ".join(node.name for node in left[:-1]), left[-1].name]))
    return [f"Approvals of new models that were given for {names} no longer count here."]
