"""Budgets and how far they are used: spent by the ledger, held by the counters of the calls in flight.

The ledger is the truth and needs no Redis; where Redis is away, what is held is not known and shown as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from django.db.models import Q
from redis.exceptions import RedisError

from billing import credits
from billing.buckets import spend_sums
from gateway_project.lib import redis
from guardrails import counters, generations, windows
from guardrails.headroom import recent
from guardrails.limits import ORGANIZATION, POOL, WINDOW_WORDS
from guardrails.models import Binding, Limit
from orgs.actor import Actor
from orgs.models import ApiKey, Organization
from orgs.permissions import Permission
from orgs.selectors import within


class Bound(NamedTuple):
    """A limit on a subject: `subject` names its counter, `node` what people call it."""

    subject: str
    level: str
    node: str
    policy: str
    kind: str
    window: str
    value: int


class Used(NamedTuple):
    """`spent` and `held`: nano-dollars of a budget; requests of the last minute of a rate."""

    limit: Bound
    spent: int
    held: int
    resets_at: datetime | None

    @property
    def unit(self) -> str:
        return "usd" if self.limit.kind == Limit.Kind.BUDGET else "count"

    @property
    def where(self) -> str:
        """Which node decides, in words."""
        return {"organization": "the organisation", "key": "the key"}.get(self.limit.level, f"the {self.limit.level}")

    @property
    def label(self) -> str:
        return f"{self.limit.node} · {WINDOW_WORDS[self.limit.window]}"

    def is_further_than(self) -> tuple[bool, float]:
        """For sorting: the nearest to its limit first."""
        used, limit = self.spent + self.held, self.limit.value
        return (used < limit, -used / limit if limit else 0.0)


class Counters(TypedDict):
    held: dict[str, int]
    recent: dict[str, int]


def limits_on_path(key: ApiKey) -> list[Bound]:
    """Every limit that a call with this key must pass, the most specific first; the credit pool is not among them."""
    groups = key.group.lineage()
    on_path = Q(api_key=key) | Q(group__in=groups)
    if key.member_id is not None:
        on_path |= Q(member=key.member_id)
    if key.application_id is not None:
        on_path |= Q(application=key.application_id)
    return sorted(_bound(on_path, key.organization), key=lambda limit: _SPECIFIC.index(limit.level))


def budgets_visible_to(actor: Actor) -> list[Bound]:
    """Budgets on the groups, keys and applications below the actor's nodes, and on the actor itself."""
    scope = actor.scope(Permission.VIEW_USAGE)
    seen = Q(member=actor.user) | Q(api_key__member=actor.user, api_key__revoked_at=None)
    seen |= Q(group__in=[membership.group_id for membership in actor.memberships])
    if scope:
        seen |= within(scope, field="group") | within(scope, field="application__group")
        seen |= within(scope, field="api_key__group") & Q(api_key__revoked_at=None)
    if any(group.level == 0 for group in scope):
        seen |= Q(member__isnull=False)
    return [limit for limit in _bound(seen, actor.organization) if limit.kind == Limit.Kind.BUDGET]


_SPECIFIC = ("key", "application", "member", "group", "organization")


_COLUMNS = (
    "group_id", "group__level", "group__name", "member_id", "member__name", "member__email", "api_key_id", "api_key__name",
    "application_id", "application__name", "policy__name", "policy__limits__kind", "policy__limits__window",
    "policy__limits__value",
)  # fmt: skip


def _bound(where: Q, organization: Organization) -> list[Bound]:
    rows = Binding.objects.filter(where, organization=organization, policy__limits__isnull=False).order_by("pk", "policy__limits")
    # Conditions on several paths of the tree may meet a binding more than once.
    return list(dict.fromkeys(_limit(dict(row)) for row in rows.values(*_COLUMNS)))


def _limit(row: dict[str, Any]) -> Bound:
    if row["group_id"] is not None:
        whole = row["group__level"] == 0
        subject = (ORGANIZATION, "organization") if whole else (f"g{row['group_id']}", "group")
        node = row["group__name"]
    elif row["member_id"] is not None:
        subject, node = (f"m{row['member_id']}", "member"), row["member__name"] or row["member__email"]
    elif row["api_key_id"] is not None:
        subject, node = (f"k{row['api_key_id']}", "key"), row["api_key__name"]
    else:
        subject, node = (f"a{row['application_id']}", "application"), row["application__name"]
    return Bound(*subject, node, row["policy__name"], *(row[f"policy__limits__{name}"] for name in ("kind", "window", "value")))


def pool_of(organization: Organization) -> Bound:
    """The prepaid credit as a limit: all that was ever funded."""
    return Bound(POOL, "credit pool", organization.name, "prepaid credit", "budget", "total", credits.funded(organization))


def used(organization: Organization, limits: Sequence[Bound], *, now: datetime) -> list[Used]:
    """One statement for all that was spent, one round trip for all that is held."""
    calendar = windows.Calendar.of(organization)
    running = [windows.containing(now, _window(limit), calendar) for limit in limits]
    subjects = {limit.subject for limit in limits if limit.kind == Limit.Kind.BUDGET}
    starts = {window.starts_at for window in running if window.starts_at is not None}
    sums = spend_sums(organization.pk, subjects=subjects, starts=starts) if subjects else None
    counted = _counters(organization.pk, limits)
    result = []
    for limit, window in zip(limits, running, strict=True):
        if limit.kind != Limit.Kind.BUDGET or sums is None:
            result.append(Used(limit, counted["recent"].get(limit.subject, 0), 0, None))
            continue
        before = sums.before[limit.subject, window.starts_at].charged if window.starts_at is not None else 0
        spent = sums.lifetime[limit.subject].charged - before
        result.append(Used(limit, spent, counted["held"].get(limit.subject, 0), window.ends_at))
    return result


def _window(limit: Bound) -> windows.Kind:
    return next((kind for kind in windows.BOUNDED if kind == limit.window), "total")


def _counters(organization_id: int, limits: Iterable[Bound]) -> Counters:
    subjects = sorted({limit.subject for limit in limits})
    if not subjects:
        return {"held": {}, "recent": {}}
    pipeline = redis.client().pipeline(transaction=False)
    try:
        token = generations.known_token(organization_id) or ""
        for subject in subjects:
            pipeline.hget(counters.counter(organization_id, token, subject), "held")
            pipeline.hgetall(counters.rate(organization_id, token, subject))
        replies = pipeline.execute()
    except RedisError:
        return {"held": {}, "recent": {}}
    return {
        "held": {subject: int(held or 0) for subject, held in zip(subjects, replies[::2], strict=True)},
        "recent": {subject: recent(buckets.items()) for subject, buckets in zip(subjects, replies[1::2], strict=True)},
    }
