"""Keys whose calls an organisation that requires attribution refuses: what they declare is not enough."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Count, Q
from django.utils import timezone

from orgs.models import ApiKey, Organization

# No call of such a key says for what it is made.
LACKING = Q(application=None) | Q(environment="") | Q(features=[])
# Only calls that name one of the features in a header are taken.
SEVERAL = ~LACKING & Q(features__len__gt=1)


class Attributed(NamedTuple):
    """Of keys that take calls: how many there are, how many could make none, and how many must name a feature in each."""

    active: int
    lacking: int
    several: int


def attributed(organization: Organization) -> Attributed:
    live = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    keys = ApiKey.objects.filter(live, organization=organization, revoked_at=None, disabled_at=None)
    found = keys.aggregate(active=Count("pk"), lacking=Count("pk", filter=LACKING), several=Count("pk", filter=SEVERAL))
    return Attributed(**found)
