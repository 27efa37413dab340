"""Limits that bound what may be made, not what may be called: how many API keys, how many members.

Counted are keys that are not deleted, and people with a membership at or below the node, suspended ones too. What is
too many already stays: a lower limit only keeps more from being added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from guardrails.in_force import InForce, in_force, value_with_overrides
from guardrails.models import Limit, Policy
from guardrails.subjects import Subject
from orgs.actor import Actor
from orgs.errors import Refused
from orgs.models import ApiKey, Application, Group, Membership, User
from orgs.selectors import within


class Coming(NamedTuple):
    """How many a subject has, and how many of them more it would have."""

    taken: int
    more: int = 1


class Full(NamedTuple):
    """A policy that allows no more, and that in words."""

    policy: Policy
    words: str


def refuse_surplus_key(group: Group, *, member: User | None, application: Application | None, made: bool = True) -> None:
    """One more key at home in this group; where it is not `made`, of the application alone. Raises Refused."""
    _refuse(full_of_keys(group, member=member, application=application, made=made))


def full_of_keys(group: Group, *, member: User | None, application: Application | None, made: bool = True) -> Full | None:
    """What would refuse such a key; None where there is room for it."""
    applied = in_force(group.organization, path=group.path(), member=member, application=application)
    keys = _living_keys(group)

    def coming(subject: Subject) -> Coming | None:
        taken = _keys_of(keys, subject) if made or isinstance(subject, Application) else None
        return None if taken is None else Coming(taken)

    return _full(applied, Limit.Kind.KEYS, coming, "API key")


def refuse_surplus_seat(group: Group, *, user: User | None) -> None:
    """One more member at this group; whoever has a seat there already needs none. Raises Refused."""

    def coming(subject: Subject) -> Coming | None:
        people = _people_of(subject)
        return None if people is None or (user is not None and user.pk in people) else Coming(len(people))

    _refuse(_full(in_force(group.organization, path=group.path()), Limit.Kind.SEATS, coming, "member"))


def refuse_surplus_moved_keys(keys: Collection[ApiKey], *, to: Group) -> None:
    """Keys that come along with their member or application, at every node that they do not lie below yet. Raises Refused."""
    there = _living_keys(to)

    def coming(subject: Subject) -> Coming | None:
        if not isinstance(subject, Group):
            return None
        return Coming(_keys_of(there, subject) or 0, sum(not subject.contains(key.group) for key in keys))

    _refuse(_full(in_force(to.organization, path=to.path()), Limit.Kind.KEYS, coming, "API key"))


def refuse_surplus_move(group: Group, to: Group, by: Actor) -> None:
    """The keys and the members of a group and of what is below it, at every new node above them. Raises Refused."""
    before = set(group.path())
    reached = [node for node in to.path() if node not in before]
    counting = Limit.objects.filter(kind__in=(Limit.Kind.KEYS, Limit.Kind.SEATS), policy__bindings__group__in=reached)
    if not counting.exists():
        return
    applied = in_force(group.organization, path=reached)
    keys, people = _living_keys(group), _people_of(group) or set()
    moved = _keys_of(keys, group) or 0

    def more_keys(subject: Subject) -> Coming | None:
        return Coming(_keys_of(keys, subject) or 0, moved) if isinstance(subject, Group) else None

    def more_people(subject: Subject) -> Coming | None:
        there = _people_of(subject)
        return None if there is None else Coming(len(there), len(people - there))

    _refuse(_full(applied, Limit.Kind.KEYS, more_keys, "API key"))
    _refuse(_full(applied, Limit.Kind.SEATS, more_people, "member"))


def _refuse(full: Full | None) -> None:
    if full is not None:
        raise Refused(full.words)


def _full(applied: Iterable[InForce], kind: Limit.Kind, coming: Callable[[Subject], Coming | None], noun: str) -> Full | None:
    """`coming` answers None where a limit on this subject is not concerned."""
    now = timezone.now()
    for one in applied:
        for limit in one.policy.limits.all():
            found = coming(one.subject) if limit.kind == kind else None
            if found is None or not found.more:
                continue
            most = value_with_overrides(limit, subject=one.subject, now=now)
            if found.taken + found.more > most:
                there = f"there {'is' if found.taken == 1 else 'are'} {found.taken:,} already"
                there += f", and {found.more:,} would come" if found.more > 1 else ""
                words = noun if most == 1 else f"{noun}s"
                return Full(one.policy, f"The policy “{one.policy}” on {one.subject} allows {most:,} {words}, and {there}.")
    return None


def _living_keys(group: Group) -> QuerySet[ApiKey]:
    """Of the group's organisation."""
    return ApiKey.objects.filter(organization=group.organization_id, revoked_at=None)


def _people_of(subject: Subject) -> set[int] | None:
    """With a membership at or below a group; None for what has no members."""
    if not isinstance(subject, Group):
        return None
    members = Membership.objects.filter(organization=subject.organization_id)
    return set(members.filter(within([subject], field="group")).values_list("user_id", flat=True))


def _keys_of(keys: QuerySet[ApiKey], subject: Subject) -> int | None:
    if isinstance(subject, Group):
        return keys.filter(within([subject], field="group")).count()
    if isinstance(subject, User):
        return keys.filter(member=subject).count()
    return keys.filter(application=subject).count() if isinstance(subject, Application) else None
