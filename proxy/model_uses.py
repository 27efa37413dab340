"""Who has called which models of late, as far as a person may see it: from the ledger, for the names that matter only."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import NamedTuple

from django.db.models import Count, Q
from django.utils import timezone

from billing.models import UsageRecord
from gateway_project.lib.ids import first_id_at
from orgs.actor import Actor
from orgs.permissions import Permission

DAYS = 30


class Use(NamedTuple):
    """Completed calls of one model in the last `DAYS` days, and by how many keys."""

    model: str
    calls: int
    keys: int


def of_models(names: Collection[str], *, actor: Actor) -> list[Use]:
    """The most used first. One statement, and none where no name is given."""
    if not names:
        return []
    calls = UsageRecord.objects.filter(
        _visible_to(actor),
        organization=actor.organization,
        call_id__gte=first_id_at(timezone.now() - timedelta(days=DAYS)),
        status=UsageRecord.Status.OK,
        requested_model__in=names,
    )
    rows = calls.values_list("requested_model").annotate(calls=Count("pk"), keys=Count("api_key", distinct=True))
    return [Use(*row) for row in rows.order_by("-calls", "requested_model")]


def _visible_to(actor: Actor) -> Q:
    """One's own, and those of the groups whose usage one may see, by their path at that time."""
    ids = [group.pk for group in actor.scope(Permission.VIEW_USAGE)]
    below = (Q(**{f"group{level}_id__in": ids}) for level in range(5)) if ids else ()
    return reduce(or_, below, Q(member=actor.user))
