"""Limits that bound what may be made, not what may be called: how many API keys, how many members.

Counted are keys that are not deleted, and people with a membership at or below the node, suspended ones too. What is
too many already stays: a lower limit only keeps more from being added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.db.models import QuerySet
from django.utils import timezone

from guardrails.in_force import InForce, in_force, value_with_overrides
from guardrails.models import Limit
from guardrails.subjects import Subject
from orgs.errors import Refused
from orgs.models import ApiKey, Application, Group, Membership, User
from orgs.selectors import within


def refuse_surplus_key(group: Group, *, member: User | None, application: Application | None) -> None:
    """One more key at home in this group. Raises Refused."""
    applied = in_force(group.organization, path=group.path(), member=member, application=application)
    keys = ApiKey.objects.filter(organization=group.organization_id, revoked_at=None)
    _refuse_full(applied, Limit.Kind.KEYS, lambda subject: _keys_of(keys, subject), "API keys")


def refuse_surplus_seat(group: Group, *, user: User | None) -> None:
    """One more member at this group; whoever has a seat there already needs none. Raises Refused."""
    applied = in_force(group.organization, path=group.path())
    members = Membership.objects.filter(organization=group.organization_id)

    def seats(subject: Subject) -> int | None:
        if not isinstance(subject, Group):
            return None
        people = set(members.filter(within([subject], field="group")).values_list("user_id", flat=True))
        return None if user is not None and user.pk in people else len(people)

    _refuse_full(applied, Limit.Kind.SEATS, seats, "members")


def _refuse_full(applied: Iterable[InForce], kind: Limit.Kind, count: Callable[[Subject], int | None], words: str) -> None:
    """`count` answers None where a limit on this subject is not concerned."""
    now = timezone.now()
    for one in applied:
        for limit in one.policy.limits.all():
            taken = count(one.subject) if limit.kind == kind else None
            if taken is None or taken < (most := value_with_overrides(limit, subject=one.subject, now=now)):
                continue
            raise Refused(f"The policy “{one.policy}” on {one.subject} allows {most:,} {words}, and there are {taken:,} already.")


def _keys_of(keys: QuerySet[ApiKey], subject: Subject) -> int | None:
    if isinstance(subject, Group):
        return keys.filter(within([subject], field="group")).count()
    if isinstance(subject, User):
        return keys.filter(member=subject).count()
    return keys.filter(application=subject).count() if isinstance(subject, Application) else None
