"""Whom the defaults of a policy come to: the choice that `compiling` makes for one call, for all keys at once."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from guardrails.models import Binding
from guardrails.subjects import Subject
from orgs.models import MAX_LEVEL, ApiKey, Organization
from orgs.selectors import within

Reach = Binding.Reach


def given_to(defaults: Collection[Binding], *, organization: Organization) -> list[Subject]:
    """Keys, and members who have keys, that these bindings give a policy. One statement; none without defaults.

    A member without a key spends nothing and is not here.
    """
    if not defaults:
        return []
    groups = {(one.reach, one.group_id) for one in defaults}
    below = within([one.group for one in defaults if one.group is not None], field="group")
    keys = ApiKey.objects.filter(below, organization=organization, revoked_at=None).select_related("member").order_by("pk")
    shared = Binding.objects.filter(organization=organization, policy__dedicated=False)
    own = shared.filter(reach=Reach.SELF)
    found = keys.annotate(
        keys_from=_nearest(shared, Reach.KEYS),
        members_from=_nearest(shared, Reach.MEMBERS),
        has_own=Exists(own.filter(api_key=OuterRef("pk"))),
        member_has_own=Exists(own.filter(member=OuterRef("member"))),
    )
    subjects: dict[tuple[str, int], Subject] = {}
    for key in found:
        if not key.has_own and (Reach.KEYS, key.keys_from) in groups:
            subjects["key", key.pk] = key
        if key.member is not None and not key.member_has_own and (Reach.MEMBERS, key.members_from) in groups:
            subjects["member", key.member.pk] = key.member
    return list(subjects.values())


def _nearest(shared: QuerySet[Binding], reach: str) -> Subquery:
    """The lowest group on a key's path that gives such a default."""
    path = Q()
    for up in range(MAX_LEVEL + 1):
        path |= Q(group=OuterRef("__".join(["group", *["parent"] * up])))
    return Subquery(shared.filter(path, reach=reach).order_by("-group__level").values("group")[:1])
