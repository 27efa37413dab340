"""Where a person's keys may be at home: in the groups of its memberships, and wherever it manages keys by a role.

A key that only a role let be where it is stops with that role. It is disabled, not deleted: whoever manages keys there sees it
and may enable it. Service keys are nobody's: they stay with their application, whoever made them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from django.db.models import F, Q
from django.utils import timezone

from orgs.actor import LINEAGE, Actor, grants_of
from orgs.audit import audit
from orgs.models import ApiKey, Group, Membership, RoleGrant, User
from orgs.permissions import Permission
from orgs.selectors import within


def may_be_home(groups: Collection[int], grants: Iterable[RoleGrant]) -> Callable[[Group], bool]:
    """By memberships in these groups (their ids) and by these roles."""
    grants = list(grants)

    def is_home(group: Group) -> bool:
        above = (grant for grant in grants if grant.group.contains(group))
        managing = (Permission.MANAGE_KEYS in grant.allows(distance=group.level - grant.group.level) for grant in above)
        return group.pk in groups or any(managing)

    return is_home


def stranded_keys(user: User, *, below: Group, without: RoleGrant | None = None) -> list[ApiKey]:
    """Keys of the person, in this group and below, that it could not make there now, or without a role, and could still use, or
    enable."""
    own = ApiKey.objects.filter(within([below], field="group"), member=user, organization=below.organization_id, revoked_at=None)
    keys = list(own.filter(Q(disabled_at=None) | Q(disabled_by=F("member"))).select_related(LINEAGE).order_by("pk"))
    if not keys:
        return []
    memberships = Membership.objects.filter(user=user, organization=below.organization_id)
    grants = [grant for grant in grants_of(user, organization=below.organization) if grant != without]
    is_home = may_be_home(set(memberships.values_list("group_id", flat=True)), grants)
    return [key for key in keys if not is_home(key.group)]


def disable(key: ApiKey, *, at: datetime, by: User | None) -> None:
    """What its member disabled, the member could enable: so in nobody's name where the member is who acts. Part of a change."""
    ApiKey.objects.filter(pk=key.pk).update(disabled_at=at, disabled_by=None if by is None or by.pk == key.member_id else by)


def stop_stranded(user: User, *, below: Group, by: Actor) -> list[ApiKey]:
    """Those that were stopped. Part of a change, after what ended ended."""
    found, now = stranded_keys(user, below=below), timezone.now()
    for key in found:
        disable(key, at=now, by=by.account)
        audit("key.disabled", by=by, target=key)
    return found
