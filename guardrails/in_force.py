"""The policies that apply on one path of the tree, for the console: the same choice that `compiling` makes for a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import Q, QuerySet, Sum, prefetch_related_objects

from gateway_project.lib.written import Written
from guardrails.models import Binding, Limit, Override, Policy
from guardrails.subjects import Subject, column_of
from orgs.models import MAX_LEVEL, ApiKey, Application, Group, Organization, User

# No thing has this id.
NOBODY = 0
# The longest path.
NODES = MAX_LEVEL + 1


def _bindings(organization: int, member: int, key: int, application: int, *path: int) -> QuerySet[Binding]:
    on_path = Q(group__in=path) | Q(member=member) | Q(api_key=key) | Q(application=application)
    found = Binding.objects.filter(on_path, organization=organization).order_by("pk")
    return found.select_related("policy", "group", "member", "api_key", "application")


_BINDINGS: Written[Binding] = Written(_bindings, *[int] * (4 + NODES))


class InForce(NamedTuple):
    """A policy and what it applies to; `given_by` is the group whose default it is, None where it is bound to that itself."""

    policy: Policy
    subject: Subject
    given_by: Group | None = None


def in_force(
    organization: Organization,
    *,
    path: Sequence[Group],
    member: User | None = None,
    key: ApiKey | None = None,
    application: Application | None = None,
) -> list[InForce]:
    """Most specific first: key, application, member, groups upwards. `path` goes from the root downwards."""
    return placed(bindings_on(organization, path=path, member=member, key=key, application=application), path, member, key)


def bindings_on(
    organization: Organization,
    *,
    path: Sequence[Group],
    member: User | None = None,
    key: ApiKey | None = None,
    application: Application | None = None,
) -> list[Binding]:
    ids = [node.pk for node in path] or [NOBODY]
    others = (thing.pk if thing is not None else NOBODY for thing in (member, key, application))
    # As many nodes as the statement takes: some of them twice.
    found = _BINDINGS(organization.pk, *others, *(ids * NODES)[:NODES])
    prefetch_related_objects(found, "policy__limits", "policy__rules")
    return found


def placed(bindings: Sequence[Binding], path: Sequence[Group], member: User | None, key: ApiKey | None) -> list[InForce]:
    """Bindings of this path → what applies on it."""
    own = [InForce(binding.policy, binding.subject) for binding in bindings if binding.reach == Binding.Reach.SELF]
    for reach, subject in ((Binding.Reach.MEMBERS, member), (Binding.Reach.KEYS, key)):
        if subject is not None and not any(one.subject == subject and not one.policy.dedicated for one in own):
            own += [InForce(binding.policy, subject, binding.group) for binding in nearest(bindings, path, reach)]
    order = {node.pk: len(path) - index for index, node in enumerate(path)}
    return sorted(own, key=lambda one: _depth(one.subject, order))


def value_with_overrides(limit: Limit, *, subject: Subject, now: datetime) -> int:
    """What a limit allows this subject at the moment."""
    now_on = limit.overrides.filter(
        Q(until=None) | Q(until__gt=now),
        kind=Override.Kind.EXTRA,
        revoked_at=None,
        starts_at__lte=now,
        **{column_of(subject): subject},
    )
    return limit.value + (now_on.aggregate(total=Sum("amount"))["total"] or 0)


def nearest(bindings: Iterable[Binding], path: Sequence[Group], reach: str) -> list[Binding]:
    """The defaults of the lowest group on the path that has any."""
    for node in reversed(path):
        if found := [one for one in bindings if one.reach == reach and one.group_id == node.pk]:
            return found
    return []


def _depth(subject: Subject, order: dict[int, int]) -> int:
    if isinstance(subject, Group):
        return order[subject.pk]
    return {"api_key": -2, "application": -1, "member": 0}[column_of(subject)]
