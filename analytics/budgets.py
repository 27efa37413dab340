"""Limits and how far they are used: spent by the ledger, held and counted by the counters of the calls in flight.

The ledger is the truth and needs no Redis; where Redis is away, what is held or counted is not known and shown as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Q
from django.utils import timezone
from redis.exceptions import RedisError

from analytics.filters import Filters
from billing import counts, credits
from billing.buckets import spent_since
from gateway_project.lib import redis
from guardrails import counters, generations, limit_words, windows
from guardrails.compiling import OF_THE_CONSOLE, subject_name
from guardrails.headroom import recent
from guardrails.in_force import InForce, in_force
from guardrails.limits import ORGANIZATION, POOL, WINDOW_WORDS
from guardrails.models import Binding, Limit, Override
from orgs.actor import Actor
from orgs.models import ApiKey, Group, Organization, User
from orgs.permissions import Permission
from orgs.selectors import within, within_ids

NO_FILTERS = Filters()
PREFIXES = {"rpm": "", "tpm": "t"}
Counted = tuple[str, str, datetime | None]


class Bound(NamedTuple):
    """A limit on a subject: `subject` names its counter, `node` what people call it.

    `value` is what it allows, with the `extra` that overrides add. `forgiven`: how much of what was spent a reset has taken
    out. `given_by`: the group whose default it is.
    """

    subject: str
    level: str
    node: str
    policy: str
    kind: str
    window: str
    value: int
    limit_id: int = 0
    policy_id: int = 0
    given_by: str = ""
    extra: int = 0
    forgiven: int = 0
    counts_byok: bool = False


class Used(NamedTuple):
    """`spent` and `held`: nano-dollars of a budget; of other kinds requests, tokens or running calls."""

    limit: Bound
    spent: int
    held: int
    resets_at: datetime | None

    @property
    def unit(self) -> str:
        return limit_words.unit(self.limit.kind)

    @property
    def where(self) -> str:
        """Which node decides, in words."""
        if self.limit.given_by:
            return f"{self.limit.given_by}, as a default"
        return {"organization": "the organisation", "key": "the key"}.get(self.limit.level, f"the {self.limit.level}")

    @property
    def label(self) -> str:
        if self.limit.kind == Limit.Kind.BUDGET:
            return f"{self.limit.node} · {WINDOW_WORDS[self.limit.window]}"
        return f"{self.limit.node} · {limit_words.title(self.limit.kind, self.limit.window).lower()}"

    @property
    def has_meter(self) -> bool:
        """A bound on each call fills up with nothing."""
        return self.limit.kind != Limit.Kind.MAX_TOKENS

    def is_further_than(self) -> tuple[bool, float]:
        """For sorting: the nearest to its limit first."""
        used, limit = self.spent + self.held, self.limit.value
        return (used < limit, -used / limit if limit else 0.0)


def limits_on_path(key: ApiKey) -> list[Bound]:
    """Every limit that a call with this key must pass, the most specific first; the credit pool is not among them."""
    application, member = key.application, key.member
    applied = in_force(key.organization, path=key.group.path(), member=member, key=key, application=application)
    limits = [_bound_of(one, limit) for one in applied for limit in one.policy.limits.all() if limit.kind not in OF_THE_CONSOLE]
    return _in_force(limits, now=timezone.now())


def _bound_of(one: InForce, limit: Limit) -> Bound:
    subject, level, node = _named(one.subject)
    given_by = one.given_by.name if one.given_by is not None else ""
    return Bound(
        subject,
        level,
        node,
        one.policy.name,
        limit.kind,
        limit.window,
        limit.value,
        limit.pk,
        one.policy.pk,
        given_by,
        counts_byok=limit.counts_byok,
    )


def _named(subject: Group | User | ApiKey | Any) -> tuple[str, str, str]:
    if isinstance(subject, Group):
        return (ORGANIZATION, "organization", subject.name) if subject.level == 0 else (f"g{subject.pk}", "group", subject.name)
    if isinstance(subject, User):
        return f"m{subject.pk}", "member", subject.display_name
    return (
        (f"k{subject.pk}", "key", subject.name)
        if isinstance(subject, ApiKey)
        else (f"a{subject.pk}", "application", subject.name)
    )


def budgets_visible_to(actor: Actor, *, filters: Filters = NO_FILTERS) -> list[Bound]:
    """Budgets on the groups, keys and applications below the actor's nodes, and on the actor itself, by default or not; narrowed
    to a group and what lies below it, and to a member.

    What others get by default is not among them: it would be one for each member or key below.
    """
    scope = actor.scope(Permission.VIEW_USAGE)
    seen = Q(member=actor.user) | Q(api_key__member=actor.user, api_key__revoked_at=None)
    seen |= Q(group__in=[membership.group_id for membership in actor.memberships])
    if any(group.level == 0 for group in scope):
        seen = Q(api_key__revoked_at=None)  # all that there are, but for deleted keys
    elif scope:
        seen |= within(scope, field="group") | within(scope, field="application__group")
        seen |= within(scope, field="api_key__group") & Q(api_key__revoked_at=None)
    above = {group for membership in actor.memberships for group in membership.group.lineage()}
    given = Q(reach=Binding.Reach.MEMBERS, group__in=above)
    narrowed, is_of_actor = _narrowed(filters), filters.group is None and filters.member in (None, actor.user.pk)
    wanted = Q(seen, narrowed, reach=Binding.Reach.SELF)
    rows = _rows(wanted | given if is_of_actor else wanted, actor.organization)
    own = [row for row in rows if row["reach"] == Binding.Reach.SELF]
    has_own = any(row["member_id"] == actor.user.pk and not row["policy__dedicated"] for row in own)
    found = [*map(_limit, own), *([] if has_own else _defaults_of(actor, [row for row in rows if row not in own]))]
    # Conditions on several paths of the tree may meet a binding more than once.
    budgets = [limit for limit in dict.fromkeys(found) if limit.kind == Limit.Kind.BUDGET]
    return _in_force(budgets, now=timezone.now())


def _narrowed(filters: Filters) -> Q:
    """Of bindings: to whatever stands at the group or below it, and to the member and its keys."""
    found = Q()
    if filters.group is not None:
        fields = ("group", "application__group", "api_key__group", "member__memberships__group")
        found &= reduce(or_, (within_ids([filters.group], field=field) for field in fields))
    if filters.member is not None:
        found &= Q(member=filters.member) | Q(api_key__member=filters.member)
    return found


def _defaults_of(actor: Actor, rows: list[dict[str, Any]]) -> list[Bound]:
    """What the actor gets as a member for whom nobody has set anything: from the nearest group above each node that gives."""
    nearest = {
        next((group for group in reversed(membership.group.lineage()) if any(row["group_id"] == group for row in rows)), 0)
        for membership in actor.memberships
    }
    mine = {"member_id": actor.user.pk, "member__name": actor.user.name, "member__email": actor.user.email}
    return [
        _limit({**row, **mine, "group_id": None})._replace(given_by=row["group__name"])
        for row in rows
        if row["group_id"] in nearest
    ]


_COLUMNS = (
    "group_id", "group__level", "group__name", "member_id", "member__name", "member__email", "api_key_id", "api_key__name",
    "application_id", "application__name", "policy__name", "policy__limits__kind", "policy__limits__window",
    "policy__limits__value", "policy__limits__counts_byok", "policy__limits", "policy_id", "policy__dedicated", "reach",
)  # fmt: skip


def _rows(where: Q, organization: Organization) -> list[dict[str, Any]]:
    """Bindings with each of their policy's limits."""
    bindings = Binding.objects.filter(where, organization=organization).order_by("pk", "policy__limits")
    return [dict(row) for row in bindings.values(*_COLUMNS)]


def _lasting(now: datetime) -> Q:
    return Q(Q(until=None) | Q(until__gt=now), revoked_at=None, starts_at__lte=now)


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
    kind, window, value = (row[f"policy__limits__{name}"] for name in ("kind", "window", "value"))
    bound = Bound(*subject, node, row["policy__name"], kind or "", window, value or 0, row["policy__limits"], row["policy_id"])
    return bound._replace(counts_byok=bool(row["policy__limits__counts_byok"]))


def _in_force(limits: list[Bound], *, now: datetime) -> list[Bound]:
    """The limits with what overrides change of them at the moment; one statement."""
    ids = {limit.limit_id for limit in limits}
    if not ids:
        return limits
    columns = ("group_id", "member_id", "api_key_id", "application_id", "group__level", "limit_id", "kind", "amount")
    found: dict[tuple[int, str], dict[str, int]] = {}
    for row in Override.objects.filter(_lasting(now), limit__in=ids).values(*columns):
        root = row["group_id"] if row["group__level"] == 0 else 0
        amounts = found.setdefault((row["limit_id"], subject_name(row, root_group_id=root)), {"extra": 0, "reset": 0})
        amounts[row["kind"]] += row["amount"]
    return [_overridden(limit, found.get((limit.limit_id, limit.subject), {})) for limit in limits]


def _overridden(limit: Bound, amounts: Mapping[str, Any]) -> Bound:
    """A reset starts counting anew: it takes out of what was spent, and leaves the limit as it is."""
    extra, forgiven = amounts.get("extra", 0), amounts.get("reset", 0)
    return limit._replace(value=limit.value + extra, extra=extra, forgiven=forgiven)


def pool_of(organization: Organization) -> Bound:
    """The prepaid credit as a limit: all that was ever funded."""
    return Bound(POOL, "credit pool", organization.name, "prepaid credit", "budget", "total", credits.funded(organization))


def used(organization: Organization, limits: Sequence[Bound], *, now: datetime) -> list[Used]:
    """One statement for all that was spent, one round trip for all that is held and counted."""
    calendar = windows.Calendar.of(organization)
    running = [windows.containing(now, _window(limit), calendar) for limit in limits]
    asked = {(limit.subject, window.starts_at) for limit, window in zip(limits, running, strict=True) if _is_budget(limit)}
    spending = spent_since(organization.pk, asked) if asked else {}
    counted = _counted(organization.pk, limits, running)
    result = []
    for limit, window in zip(limits, running, strict=True):
        if not _is_budget(limit):
            seen = counted.get((limit.subject, limit.kind, window.starts_at), 0)
            result.append(Used(limit, seen, 0, window.ends_at))
            continue
        spent = spending[limit.subject, window.starts_at].counted(byok=limit.counts_byok) - limit.forgiven
        # What only own keys can spend is held for those budgets that count it (guardrails/lua/amounts.lua).
        held, held_own = (counted.get((limit.subject, name, None), 0) for name in ("held", "held_own"))
        result.append(Used(limit, max(0, spent), held if limit.counts_byok else held - held_own, window.ends_at))
    return result


def _is_budget(limit: Bound) -> bool:
    return limit.kind == Limit.Kind.BUDGET


def _window(limit: Bound) -> windows.Kind:
    return next((kind for kind in windows.BOUNDED if kind == limit.window), "total")


# --- what Redis counts ---------------------------------------------------------------------------
def _counted(organization_id: int, limits: Sequence[Bound], running: Sequence[windows.Window]) -> dict[Counted, int]:
    """By subject, kind (or "held", "held_own") and beginning of the day; what Redis does not tell is not in it."""
    wanted = dict.fromkeys(_wanted(limits, running))
    if not wanted:
        return {}
    pipeline = redis.client().pipeline(transaction=False)
    try:
        token = generations.known_token(organization_id) or ""
        for subject, kind, starts_at in wanted:
            if kind in PREFIXES:
                pipeline.hgetall(counters.rate(organization_id, token, subject))
            else:
                pipeline.hget(counters.counter(organization_id, token, subject), _field(kind, starts_at))
        replies = pipeline.execute()
    except RedisError:
        return {}
    return {one: _count(organization_id, one, reply) for one, reply in zip(wanted, replies, strict=True)}


def _wanted(limits: Sequence[Bound], running: Sequence[windows.Window]) -> Iterable[Counted]:
    for limit, window in zip(limits, running, strict=True):
        if _is_budget(limit):
            yield limit.subject, "held", None
            yield limit.subject, "held_own", None
        elif limit.kind != Limit.Kind.MAX_TOKENS:
            yield limit.subject, limit.kind, window.starts_at


def _field(kind: str, starts_at: datetime | None) -> str:
    """Of a subject's counter (guardrails/lua/admit.lua)."""
    if kind == Limit.Kind.RPD and starts_at is not None:
        return f"q:{round(starts_at.timestamp() * 1000)}"
    return "live" if kind == Limit.Kind.PARALLEL else kind


def _count(organization_id: int, wanted: Counted, reply: Any) -> int:
    subject, kind, starts_at = wanted
    if kind in PREFIXES:
        return recent(reply.items(), prefix=PREFIXES[kind])
    if reply is None and kind == Limit.Kind.RPD and starts_at is not None:
        return _calls(organization_id, subject, starts_at)
    return int(reply or 0)


def _calls(organization_id: int, subject: str, since: datetime) -> int:
    """By the ledger, where no call has loaded the counter yet."""
    milliseconds = round(since.timestamp() * 1000)
    with connection.cursor() as cursor:
        cursor.execute(counts.CALLS_SQL, counts.calls_parameters(organization_id, subject=subject, since_ms=milliseconds))
        return int(cursor.fetchone()[0])
