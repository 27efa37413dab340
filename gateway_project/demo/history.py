"""The demo organisation's past: a month of calls written into the ledger, as if the gateway had served them.

* Every row says so: its route reason is "demo history to <date>", the day on which the history was begun.
* The newest day is written first, each day in one transaction. So an interrupted run is completed by the next one, which
  finds the days that are missing; and a complete history is left as it is, today and next week.
* The rows carry their own `recorded_at`, which is why they do not go through `billing.ledger`; otherwise they are what it
  writes. The inserting transaction is the real one: buckets and rollups find late rows by it.
* Counters that are in Redis already do not know these rows; they are told at the end (guardrails/late.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from django.db import connection, transaction
from django.db.models import Max, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone
from psycopg import sql

from billing import buckets, partitions, prices
from billing.ledger import Attempt
from billing.models import UsageRecord
from billing.pricing import Price
from gateway_project.demo import company, workloads
from gateway_project.demo.past import Day, Origin, PastRow, Rate, Room, Served
from guardrails import late
from guardrails.late import LateRows
from guardrails.loading import Spend
from guardrails.models import Limit
from orgs.actor import LINEAGE
from orgs.models import ApiKey, Organization
from proxy.models import Deployment, Preset

MARK = "demo history"
# The last minutes belong to the calls that are made now.
GAP = timedelta(minutes=2)
# One history at a time: this number is theirs among PostgreSQL's advisory locks.
_LOCK = 0x68697374

Progress = Callable[[date, int], None]


class Busy(Exception):
    """Another process writes the history just now."""


class Written(NamedTuple):
    """Of the days that were missing."""

    days: int
    calls: int


class _Batch(NamedTuple):
    """A day's rows and attempts as JSON."""

    day: date
    rows: bytes
    attempts: bytes
    calls: int


def write(
    organization: Organization,
    *,
    days: int,
    calls: int,
    now: datetime | None = None,
    progress: Progress = lambda day, calls: None,
) -> Written:
    """About `calls` calls of the `days` before now; nothing for days that are there. `progress` hears of each day written.

    Raises Busy.
    """
    with _alone():
        before = (now or timezone.now()) - GAP
        zone = ZoneInfo(organization.time_zone)
        until = _until(organization) or before.astimezone(zone).date()
        period = workloads.period(until, days=days)
        missing = set(period[:-1]) - _written_days(organization, zone)
        written = 0
        if missing:
            _make_partitions(period)
            # All are made before the first is written: a budget's past decides its future, and the newest day goes first.
            batches = list(_batches(organization, period=period, calls=calls, before=before))
            for batch in reversed([batch for batch in batches if batch.day in missing]):
                _insert(batch)
                written += batch.calls
                progress(batch.day, batch.calls)
        tell_counters(organization)
    return Written(len(missing), written)


def tell_counters(organization: Organization) -> None:
    """Makes the counters in Redis know the history, if they do not yet."""
    late.count(organization, rows=_late_rows(organization), read=_read_spend)


@contextmanager
def _alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            raise Busy("The demo history is being written by another process.")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


# --- what is there -----------------------------------------------------------------------------
def rows_of(organization: Organization) -> QuerySet[UsageRecord]:
    """The invented rows of an organisation."""
    return UsageRecord.objects.filter(organization=organization, route_reason__startswith=MARK)


def _until(organization: Organization) -> date | None:
    """The day on which this history was begun, as its rows tell."""
    reason = rows_of(organization).values_list("route_reason", flat=True).first()
    return date.fromisoformat(reason.rpartition(" ")[2]) if reason else None


def _written_days(organization: Organization, zone: ZoneInfo) -> set[date]:
    days = rows_of(organization).annotate(day=TruncDate("admitted_at", tzinfo=zone)).values_list("day", flat=True)
    return set(days.distinct())


# --- making it ---------------------------------------------------------------------------------
def _batches(organization: Organization, *, period: list[date], calls: int, before: datetime) -> Iterator[_Batch]:
    """Oldest first. What there is of the last day belongs to the batch of the day before: no batch is ever empty."""
    zone, until = ZoneInfo(organization.time_zone), period[-1]
    counts = workloads.calls_by_day(period, calls=calls)
    origins, rooms, presets = _origins(organization), _rooms(organization), _presets(organization)
    deployments, served = _deployments(), dict[str, Served]()
    past = []
    for day in period:
        served = _served(deployments, datetime.combine(day, time(), tzinfo=zone), before=served)
        made = Day(
            day,
            until=until,
            zone=zone,
            mark=f"{MARK} to {until:%Y-%m-%d}",
            origins=origins,
            served=served,
            presets=presets,
            baseline=company.BASELINE,
            rooms=rooms,
            seed=f"northwind {organization.pk}",
        )
        past.append((day, list(made.calls(counts[day], before=before))))
    *earlier, (yesterday, calls_of_yesterday), (_, calls_of_today) = past
    for day, made_calls in (*earlier, (yesterday, calls_of_yesterday + calls_of_today)):
        yield _Batch(
            day,
            msgspec.json.encode([call.row for call in made_calls]),
            msgspec.json.encode([attempt for call in made_calls for attempt in call.attempts]),
            len(made_calls),
        )


def _origins(organization: Organization) -> dict[str, Origin]:
    """By key name, for the keys that there still are."""
    names = [workload.key for workload in workloads.WORKLOADS]
    keys = ApiKey.objects.filter(organization=organization, name__in=names).select_related(LINEAGE).order_by("-pk")
    limits = Limit.objects.filter(kind=Limit.Kind.RPM, policy__bindings__api_key__in=keys)
    found = limits.values_list("policy__bindings__api_key", "policy__name", "value")
    rates = {key_id: Rate(policy, value) for key_id, policy, value in found}
    return {key.name: Origin(_columns(key), tuple(key.features), rates.get(key.pk)) for key in keys}


def _columns(key: ApiKey) -> dict[str, Any]:
    levels = {f"group{level}_id": group for level, group in enumerate(key.group.lineage())}
    return {
        "organization_id": key.organization_id,
        "member_id": key.member_id,
        "api_key_id": key.pk,
        "application_id": key.application_id,
        "environment": key.environment,
        **levels,
    }


def _rooms(organization: Organization) -> list[Room]:
    """Of applications with a budget that never resets."""
    limits = Limit.objects.filter(
        kind=Limit.Kind.BUDGET,
        window=Limit.Window.TOTAL,
        policy__bindings__organization=organization,
        policy__bindings__application__isnull=False,
    )
    found = limits.values_list("policy__bindings__application", "value", "policy__bindings__application__name", "policy__name")
    return [Room(application_id=pk, limit=value, node=node, policy=policy) for pk, value, node, policy in found]


def _presets(organization: Organization) -> dict[str, str]:
    """Name → model, of those that there still are."""
    return dict(Preset.objects.filter(organization=organization, archived_at=None).values_list("name", "model"))


def _deployments() -> list[Deployment]:
    """Of the models of the workloads."""
    names = {name for workload in workloads.WORKLOADS for name in workload.models}
    return list(Deployment.objects.filter(model__name__in=names).select_related("model", "provider"))


def _served(deployments: list[Deployment], moment: datetime, *, before: dict[str, Served]) -> dict[str, Served]:
    """By model, with the price in force at the moment; those without one are left out.

    `before`: the same of an earlier moment. A price that is still in force is not looked up again.
    """
    found = {}
    for deployment in deployments:
        name = deployment.model.name
        skus = prices.skus_for(model=name, kind=deployment.provider.kind, upstream_model=deployment.upstream_model)
        earlier = before.get(name)
        if earlier and earlier.deployment_id == deployment.pk and _holds(earlier.price, skus[0], moment):
            found[name] = earlier
        elif price := prices.price_for(skus, at=moment):
            found[name] = Served(name, deployment.pk, deployment.upstream_model, price)
    return found


def _holds(price: Price, sku: str, moment: datetime) -> bool:
    """Whether it is still the first choice: where it is that of another name, this one may have one by now."""
    return price.sku == sku and (price.valid_until is None or moment < price.valid_until)


# --- writing it --------------------------------------------------------------------------------
def _make_partitions(period: list[date]) -> None:
    for month in sorted({day.replace(day=1) for day in period}):
        partitions.ensure_partitions(around=datetime.combine(month, time(12), tzinfo=UTC))


def _insert_statements() -> tuple[sql.Composed, sql.Composed]:
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}{more}) SELECT {columns}{values} FROM json_populate_recordset(NULL::{table}, %s::json)"
    )
    rows = statement.format(
        table=sql.Identifier("billing_usagerecord"),
        columns=sql.SQL(", ").join(map(sql.Identifier, PastRow.__struct_fields__)),
        more=sql.SQL(", transaction_id"),
        values=sql.SQL(", pg_current_xact_id()::text::bigint"),
    )
    attempts = statement.format(
        table=sql.Identifier("billing_callattempt"),
        columns=sql.SQL(", ").join(map(sql.Identifier, Attempt.__struct_fields__)),
        more=sql.SQL(""),
        values=sql.SQL(""),
    )
    return rows, attempts


def _insert(batch: _Batch) -> None:
    rows, attempts = _insert_statements()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(rows, [batch.rows.decode()])
        cursor.execute(attempts, [batch.attempts.decode()])


# --- telling the counters ----------------------------------------------------------------------
def _late_rows(organization: Organization) -> Iterator[LateRows]:
    """By subject, transaction and local day: no budget window begins within a day."""
    levels = [f"group{level}_id" for level in range(1, 5)]
    columns = (*levels, "member_id", "api_key_id", "application_id")
    sums = (
        rows_of(organization)
        .filter(charged_nano_usd__gt=0)
        .annotate(day=TruncDate("recorded_at", tzinfo=ZoneInfo(organization.time_zone)))
        .values("transaction_id", "day", *columns)
        .annotate(latest=Max("recorded_at"), charged=Sum("charged_nano_usd"))
    )
    for row in sums:
        recorded_ms = int(row["latest"].timestamp() * 1000)
        for subject in _subjects(row):
            yield LateRows(subject, row["transaction_id"], recorded_ms, row["charged"])


def _subjects(row: dict[str, Any]) -> list[str]:
    """Those of billing.buckets."""
    named = [("g", row[f"group{level}_id"]) for level in range(1, 5)]
    named += [("m", row["member_id"]), ("k", row["api_key_id"]), ("a", row["application_id"])]
    return ["org", "pool", *(f"{letter}{pk}" for letter, pk in named if pk is not None)]


def _read_spend(organization_id: int, *, subjects: Collection[str], starts: Sequence[int]) -> Spend:
    moments = {datetime.fromtimestamp(start / 1000, tz=UTC): start for start in starts}
    sums = buckets.spend_sums(organization_id, subjects=subjects, starts=moments)
    return Spend(
        snapshot=sums.snapshot,
        spent={subject: spend.charged for subject, spend in sums.lifetime.items()},
        before={(subject, moments[start]): spend.charged for (subject, start), spend in sums.before.items()},
    )
