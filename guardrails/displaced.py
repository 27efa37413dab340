"""Which defaults a policy takes the place of where it is about to be bound: see `compiling` for the choice that calls follow.

A default goes to the members, or keys, that have no policy of their own, from the nearest group that has any. So a first policy
of its own takes them from a member or key, and the first default of a group those of a group above from all below it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.db.models import QuerySet

from guardrails.in_force import nearest
from guardrails.models import Binding, Policy
from guardrails.subjects import Subject
from orgs.actor import ABOVE
from orgs.models import ApiKey, Group, Membership, Organization, User
from orgs.selectors import within

Reach = Binding.Reach


def displaced_by(policy: Policy, *, subject: Subject, reach: str, organization: Organization) -> list[Binding]:
    """Before it is bound. Not those of the same policy, which then applies as before. At most four statements."""
    shared = Binding.objects.filter(organization=organization, policy__dedicated=False)
    of, paths = _coming_to(subject, reach, shared, organization)
    nodes = {node.pk for path in paths for node in path}
    if not nodes:
        return []
    defaults = list(shared.filter(reach=of, group__in=nodes).select_related("policy", "group").order_by("pk"))
    found = {one.pk: one for path in paths for one in nearest(defaults, path, of) if one.policy_id != policy.pk}
    if found and isinstance(subject, Group) and not _reaches_anybody(subject, of, shared):
        return []
    return list(found.values())


def words(displaced: Collection[Binding], *, whom: str) -> str:
    """Empty where there are none."""
    names = list(dict.fromkeys(f"“{one.policy}”" for one in displaced))
    if not names:
        return ""
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} no longer {'applies' if len(names) == 1 else 'apply'} to {whom}"


def whom_words(name: str, *, reach: str) -> str:
    """Whom it takes them from, of a subject of that name."""
    return name if reach == Reach.SELF else f"the {reach} below {name}"


def _coming_to(
    subject: Subject, reach: str, shared: QuerySet[Binding], organization: Organization
) -> tuple[str, Sequence[Sequence[Group]]]:
    """Of which reach defaults come to it, or through it, and down which paths; no paths where none do."""
    if isinstance(subject, User):
        return Reach.MEMBERS, [] if shared.filter(member=subject).exists() else _paths_of(subject, organization)
    if isinstance(subject, ApiKey):
        return Reach.KEYS, [] if shared.filter(api_key=subject).exists() else [subject.group.path()]
    if isinstance(subject, Group) and reach != Reach.SELF:
        return reach, [] if shared.filter(group=subject, reach=reach).exists() else [subject.path()[:-1]]
    return reach, []


def _paths_of(member: User, organization: Organization) -> list[list[Group]]:
    """Of the groups that it belongs to, and of its keys."""
    belongs = Membership.objects.filter(user=member, organization=organization).values("group")
    keys = ApiKey.objects.filter(member=member, organization=organization, revoked_at=None).values("group")
    homes = Group.objects.filter(pk__in=belongs.union(keys)).select_related(ABOVE)
    return [home.path() for home in homes]


def _reaches_anybody(group: Group, reach: str, shared: QuerySet[Binding]) -> bool:
    """Whether anybody, or any key, below the group has no policy of its own and no nearer default."""
    others = shared.filter(reach=reach, group__isnull=False).select_related(f"group__{ABOVE}")
    nearer = [one.group for one in others if one.group and one.group != group and group.contains(one.group)]
    own = shared.filter(reach=Reach.SELF)
    rows: QuerySet[Membership] | QuerySet[ApiKey]
    if reach == Reach.MEMBERS:
        rows = Membership.objects.exclude(user__in=own.exclude(member=None).values("member"))
    else:
        rows = ApiKey.objects.filter(revoked_at=None).exclude(pk__in=own.exclude(api_key=None).values("api_key"))
    rows = rows.filter(within([group], field="group"))
    return (rows.exclude(within(nearer, field="group")) if nearer else rows).exists()
