"""What moving a group changes for limits and rules: which apply from the next call on, which no longer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db.models import Q
from django.utils import timezone

from gateway_project.lib.money import display_usd
from guardrails import coherence, offered
from guardrails.coherence import Placed
from guardrails.in_force import nearest
from guardrails.models import Binding
from guardrails.policy_pages import rule_lists, words_of_limits
from guardrails.policy_selectors import Use, shape_of, uses_of
from orgs.consequences import Consequence, left_and_joined
from orgs.models import Group
from orgs.selectors import within

Reach = Binding.Reach


def changes_of_move(group: Group, to: Group) -> list[Consequence]:
    old, new = group.path()[:-1], to.path()
    moved, bindings = _bindings(group, [*old, *new])
    left, joined = left_and_joined(group, to)
    coming = _own(bindings, joined)
    uses = uses_of(coming, organization=group.organization, now=timezone.now())
    return [
        *(Consequence("ended", _words(one)) for one in _own(bindings, left)),
        *(Consequence("now", f"{_words(one)}{_spent(uses.get(one.pk, []))}") for one in coming),
        *_defaults(bindings, [*old, group], [*new, group]),
        *(Consequence("note", warning) for warning in _oddities(moved, _own(bindings, old), _own(bindings, new))),
        Consequence(
            "note", "What was spent so far stays with the groups it was spent in: only later calls count in the new place."
        ),
    ]


def _bindings(group: Group, above: Sequence[Group]) -> tuple[list[Binding], list[Binding]]:
    """Of groups: those in the moved subtree, and those on either path with the moved group's own."""
    path = {node.pk for node in [*above, group]}
    found = Binding.objects.filter(Q(group__in=path) | within([group], field="group"), organization=group.organization_id)
    rows = list(found.select_related("policy", "group").prefetch_related("policy__limits", "policy__rules").order_by("pk"))
    ids = {node.pk for node in above}
    return [one for one in rows if one.group_id not in ids], [one for one in rows if one.group_id in path]


def _own(bindings: Iterable[Binding], nodes: Sequence[Group]) -> list[Binding]:
    ids = {node.pk for node in nodes}
    return [one for one in bindings if one.reach == Reach.SELF and one.group_id in ids]


def _words(binding: Binding) -> str:
    """ "Team" on engineering: $25.00 per month, 60 requests/min."""
    lists = [rule.label.lower() for rule in rule_lists(binding.policy)]
    said = ", ".join([*words_of_limits(binding.policy), *lists])
    return f"“{binding.policy}” on {binding.group}{f': {said}' if said else ''}"


def _spent(uses: Iterable[Use]) -> str:
    """How much of the budgets is gone already."""
    gone = [f"{display_usd(use.spent)} of {display_usd(use.value)}" for use in uses]
    return f" ({', '.join(gone)} spent)" if gone else ""


def _defaults(bindings: Sequence[Binding], old: Sequence[Group], new: Sequence[Group]) -> list[Consequence]:
    """The nearest group's defaults count, so one change of place may swap all of them."""
    found = []
    for reach, whom in ((Reach.MEMBERS, "member"), (Reach.KEYS, "key")):
        before, after = nearest(bindings, old, reach), nearest(bindings, new, reach)
        found += [Consequence("ended", f"{_words(one)}, for each {whom} by default") for one in before if one not in after]
        found += [Consequence("now", f"{_words(one)}, for each {whom} by default") for one in after if one not in before]
    return found


def _oddities(moved: Iterable[Binding], old: Iterable[Binding], new: Iterable[Binding]) -> list[str]:
    """What would be odd about the policies of the moved groups in the new place and is not in the old one."""
    known = offered.models()
    placed = [Placed(shape_of(one.policy), str(one.group)) for one in moved if one.reach == Reach.SELF]

    def warnings(above: Iterable[Binding]) -> list[str]:
        places = [Placed(shape_of(one.policy), str(one.group)) for one in above]
        return [words for own in placed for words in coherence.at_a_place(own, above=places, below=[], offered=known)]

    before = set(warnings(old))
    return [words for words in dict.fromkeys(warnings(new)) if words not in before]
