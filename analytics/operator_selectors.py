"""What the operator sees of every organisation: sizes and sums, never whose."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from django.db.models import Count, F, Q, Sum

from analytics.models import UsageRollup
from orgs.models import Membership, Organization


class OrganizationRow(NamedTuple):
    """`members`: all that belong to it, as its own pages count them, with those who are `suspended` wherever they are in it.
    `spent_nano_usd` and `calls`: of this month UTC, as far as it is rolled up (some seconds ago)."""

    organization: Organization
    members: int
    suspended: int
    spent_nano_usd: int
    calls: int


def organization_rows(organizations: Sequence[Organization]) -> list[OrganizationRow]:
    """In two statements."""
    ids = [organization.pk for organization in organizations]
    people = Membership.objects.filter(organization__in=ids).values_list("organization")
    live = Count("user", distinct=True, filter=Q(suspended_at=None))
    members = {row[0]: row[1:] for row in people.annotate(every=Count("user", distinct=True), suspended=F("every") - live)}
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    used = UsageRollup.objects.filter(organization_id__in=ids, hour__gte=month).values_list("organization_id")
    sums = {row[0]: row[1:] for row in used.annotate(Sum("charged_nano_usd"), Sum("calls"))}
    return [
        OrganizationRow(organization, *members.get(organization.pk, (0, 0)), *sums.get(organization.pk, (0, 0)))
        for organization in organizations
    ]
