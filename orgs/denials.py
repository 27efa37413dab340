"""Denials in the audit trail: who was refused what for lack of a permission.

Bounded, so that nobody can fill the trail by asking again and again: of one person the same permission at the same
place is recorded once in ten minutes, and at most MOST_PER_HOUR of all in an hour. What is left out is in the log.
"""

from __future__ import annotations

import structlog
from django.core.cache import cache
from django.db import transaction
from redis.exceptions import RedisError

from gateway_project.lib import redis
from orgs.actor import Actor
from orgs.audit import audit
from orgs.errors import NotAllowed

AGAIN_AFTER_SECONDS = 600
MOST_PER_HOUR = 60
PATH_LENGTH = 200

log = structlog.get_logger(__name__)


def record_denial(missing: NotAllowed, *, by: Actor, method: str, path: str) -> None:
    """The refusal itself stands whether it can be recorded or not. Call it outside the transaction that was refused."""
    if not _is_news(missing, by=by):
        log.info("denied", user=by.user.pk, organization=by.organization.pk, permission=missing.permission.value)
        return
    here = missing.group or next((membership.group for membership in by.memberships), None)
    facts = {"permission": missing.permission.value, "method": method[:10], "path": path[:PATH_LENGTH]}
    with transaction.atomic():
        audit("access.denied", by=by, target=missing.group or by.organization, after=facts, group=here)


def _is_news(missing: NotAllowed, *, by: Actor) -> bool:
    """Without its counters there is no bound, and so no record."""
    person = f"denied:{by.organization.pk}:{by.user.pk}"
    place = missing.group.pk if missing.group else 0
    try:
        if not cache.add(f"{person}:{missing.permission}:{place}", 1, AGAIN_AFTER_SECONDS):
            return False
        return redis.counted(f"gh:{person}", seconds=3600) <= MOST_PER_HOUR
    except RedisError:
        return False
