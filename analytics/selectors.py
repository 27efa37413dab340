"""Calls as pages show them, cut to what the actor may see; and what the key pages of the app below ask for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import CharField, Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Concat
from django.http import Http404
from django.utils import timezone

from analytics.filters import Filters, Scope
from analytics.rollups import USAGE_SQL
from billing.models import CallAttempt, UsageRecord
from gateway_project.lib import keyset
from gateway_project.lib.ids import first_id_at, time_of
from gateway_project.lib.rows import sole
from orgs.actor import Actor
from orgs.models import ApiKey, Group
from proxy.auto import LEANINGS
from proxy.model_uses import Use
from proxy.models import Model
from proxy.named import presets_visible_to
from proxy.names import PRESET

PAGE_SIZE = 50
PATH = tuple(f"group{level}_id" for level in range(5))
_FILTERS = {"key": "api_key"}


class CallPage(NamedTuple):
    """Newest first. `older` and `newer` are the ids to go on from; None at an end."""

    calls: list[UsageRecord]
    older: UUID | None
    newer: UUID | None


class KeyUse(NamedTuple):
    """What a key has spent since a moment, and when its latest call began (None: never)."""

    key_id: int
    spent_nano_usd: int
    last_used_at: datetime | None


class MemberUse(NamedTuple):
    """What a person has used since a moment, of what the viewer may see."""

    member_id: int
    spent_nano_usd: int
    calls: int


def calls_visible_to(actor: Actor) -> QuerySet[UsageRecord]:
    """The calls of the groups whose usage the actor may see, by their path at that time, and its own."""
    scope = Scope.of(actor)
    calls = UsageRecord.objects.filter(organization=actor.organization)
    if scope.whole:
        return calls
    below = [Q(**{f"{column}__in": scope.group_ids}) for column in PATH[1:]] if scope.group_ids else []
    return calls.filter(reduce(or_, below, Q(member=actor.user)))


def access_call_by_id(actor: Actor, call_id: UUID) -> UsageRecord:
    """Raises Http404: absent, another organisation's and out of reach are the same."""
    call = sole(_with_names(calls_visible_to(actor)).filter(pk=call_id))
    if call is None:
        raise Http404("no such call")
    return call


def filtered(calls: QuerySet[UsageRecord], filters: Filters) -> QuerySet[UsageRecord]:
    """A group is any on the path of a call at its time."""
    group, *_ = filters
    if group is not None:
        calls = calls.filter(reduce(or_, (Q(**{column: group}) for column in PATH)))
    if filters.model:
        # Whether it was asked for or, under another name, was what served the call.
        names = ("requested_model", "served_model", "decision__auto__model")
        calls = calls.filter(reduce(or_, (Q(**{name: filters.model}) for name in names)))
    wanted = {_FILTERS.get(name, name): value for name, value in filters._asdict().items() if name not in ("group", "model")}
    return calls.filter(**{name: value for name, value in wanted.items() if value not in (None, "")})


_SHOWN = (
    "admitted_at", "member__name", "member__email", "api_key__name", "application__name", "feature", "environment",
    "requested_model", "served_model", "provider", "decision", "usage_estimated", "charged_nano_usd", "latency_ms", "status",
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "error_code",
    "call_count",
)  # fmt: skip


def calls_of(
    calls: QuerySet[UsageRecord],
    *,
    since: datetime,
    filters: Filters,
    reason: str = "",
    ids: tuple[UUID, UUID] | None = None,
) -> QuerySet[UsageRecord]:
    """What the log shows of `calls`, on all of its pages. `reason`: the code of an error."""
    calls = filtered(calls.filter(pk__gte=first_id_at(since)), filters)
    if ids is not None:
        calls = calls.filter(pk__gte=ids[0], pk__lte=ids[1])
    return calls.filter(error_code=reason) if reason else calls


def call_page(
    calls: QuerySet[UsageRecord], *, before: UUID | None = None, after: UUID | None = None, size: int = PAGE_SIZE
) -> CallPage:
    """By ids, which sort by time; of each call what its row in the log shows (call_rows.py), and no more."""
    calls = _with_names(calls).only(*_SHOWN)
    return CallPage(*keyset.page_of(calls, before=before, after=after, size=size))


def recent_calls(key: ApiKey, *, count: int = 8) -> list[UsageRecord]:
    """The key's latest calls; whoever may see the key may see them."""
    calls = UsageRecord.objects.filter(api_key=key, organization=key.organization_id)
    return list(_with_names(calls).order_by("-pk")[:count])


def attempts_of(call: UsageRecord) -> list[CallAttempt]:
    return list(CallAttempt.objects.filter(call_id=call.call_id).order_by("number"))


def path_of(call: UsageRecord) -> list[Group]:
    """The groups the call is attributed to, from the root down, as they are called now."""
    ids = [getattr(call, column) for column in PATH]
    groups = {group.pk: group for group in Group.objects.filter(organization=call.organization_id, pk__in=[i for i in ids if i])}
    return [groups[group_id] for group_id in ids if group_id in groups]


def chat_models() -> list[str]:
    """Names of the chat models that are offered, as they were declared."""
    offered = Model.objects.filter(kind=Model.Kind.CHAT, enabled=True, deployments__provider__enabled=True).distinct()
    return list(offered.order_by("pk").values_list("name", flat=True))


def names_called(actor: Actor) -> list[str]:
    """What calls may name: `auto`, the presets the actor may see, and every model that is offered, of whatever kind.

    In one statement, presets first, then models that chat.
    """
    presets = presets_visible_to(actor).filter(archived_at=None).order_by()
    offered = Model.objects.filter(enabled=True, deployments__provider__enabled=True).order_by()
    named = presets.values_list(Value("", CharField()), Concat(Value(PRESET), "name", output_field=CharField()))
    found = named.union(offered.values_list("kind", "name"))
    return [*LEANINGS, *(name for _, name in sorted(found, key=lambda row: (row[0] != "", row[0] != Model.Kind.CHAT, row)))]


def first_chat_model() -> str:
    return next(iter(chat_models()), "")


def key_use(organization_id: int, *, keys: Sequence[int], since: datetime, until: datetime) -> list[KeyUse]:
    """In two statements: sums over rollups, and one look into the index for each key's latest call."""
    spent_sql = (
        f"SELECT api_key_id, sum(charged_nano_usd)::bigint FROM {USAGE_SQL} AS usage "  # noqa: S608 - constants only
        "WHERE api_key_id = ANY(%(keys)s) GROUP BY 1"
    )
    latest_sql = (
        "SELECT asked.key, (SELECT call_id FROM billing_usagerecord u WHERE u.api_key_id = asked.key "
        "ORDER BY u.call_id DESC LIMIT 1) FROM unnest(%(keys)s::bigint[]) AS asked (key)"
    )
    parameters: dict[str, Any] = {"organization_id": organization_id, "keys": list(keys), "since": since, "until": until}
    with connection.cursor() as cursor:
        cursor.execute(spent_sql, parameters)
        spent = dict(cursor.fetchall())
        cursor.execute(latest_sql, parameters)
        latest = dict(cursor.fetchall())
    return [KeyUse(key, spent.get(key, 0), time_of(latest[key]) if latest.get(key) else None) for key in keys]


def member_use(scope: Scope, *, members: Sequence[int], since: datetime, until: datetime) -> list[MemberUse]:
    """In one statement over rollups. These people's usage where the viewer may see it, whoever they are."""
    scope_sql, values = scope.sql()
    used_sql = (
        f"SELECT member_id, sum(charged_nano_usd)::bigint, sum(calls)::bigint FROM {USAGE_SQL} AS usage "  # noqa: S608
        f"WHERE member_id = ANY(%(members)s) AND {scope_sql} GROUP BY 1"
    )
    parameters = {**values, "organization_id": scope.organization_id, "members": list(members), "since": since, "until": until}
    with connection.cursor() as cursor:
        cursor.execute(used_sql, parameters)
        used = {member: MemberUse(member, spent, calls) for member, spent, calls in cursor.fetchall()}
    return [used.get(member, MemberUse(member, 0, 0)) for member in members]


def model_uses(names: Collection[str], actor: Actor, since: datetime) -> list[Use]:
    """Completed calls of these models that the actor may see, from the hour of `since` on. One statement over rollups."""
    scope_sql, values = Scope.of(actor).sql()
    used_sql = (
        f"SELECT model, sum(calls)::bigint, count(DISTINCT api_key_id) FROM {USAGE_SQL} AS usage "  # noqa: S608
        f"WHERE model = ANY(%(models)s) AND status = 'ok' AND {scope_sql} GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    period = {"since": since.replace(minute=0, second=0, microsecond=0), "until": timezone.now() + timedelta(hours=1)}
    with connection.cursor() as cursor:
        cursor.execute(used_sql, {**values, **period, "organization_id": actor.organization.pk, "models": list(names)})
        return [Use(*row) for row in cursor.fetchall()]


def unused_since(moment: datetime) -> Q:
    """A condition on keys: no call began at or after the moment. One look into the index for each key."""
    return ~Q(Exists(UsageRecord.objects.filter(api_key=OuterRef("pk"), pk__gte=first_id_at(moment))))


def _with_names(calls: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
    """Names in the same statement."""
    return calls.select_related("member", "api_key", "application")
