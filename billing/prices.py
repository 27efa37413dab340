"""Prices as rows: seeding them from the price list, declaring an operator's own, finding the one in force.

`PriceVersion` is append-only. Whatever changes, the past stays: a new row begins now (or at a future
date already announced), and every usage row names the version it was billed with. A row with empty
rates withdraws the price of its sku from then on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from billing import price_list
from billing.models import PriceVersion
from billing.price_list import Timeline, encoded
from billing.pricing import Price, Rates
from orgs import epoch
from orgs.audit import audit_as
from orgs.models import Organization
from orgs.services.freezing import Operator

WITHDRAWN: dict[str, Any] = {}
# So much may the clocks of two hosts differ, as with the rows of the ledger.
CLOCKS_APART = timedelta(minutes=15)

# The version in force of each sku at a moment, and when its successor begins. Parameters: skus, at.
PRICES_SQL = """
SELECT DISTINCT ON (sku) id, sku, rates, valid_until
FROM (
    SELECT id, sku, rates, valid_from, lead(valid_from) OVER (PARTITION BY sku ORDER BY valid_from) AS valid_until
    FROM billing_priceversion WHERE sku = ANY(%(skus)s)
) AS versions
WHERE valid_from <= %(at)s
ORDER BY sku, valid_from DESC
"""


@dataclass
class SyncReport:
    """What a synchronisation appended (or would append): old and new rates by sku and moment."""

    source: str
    up_to_date: bool = False
    added: list[str] = field(default_factory=list)
    changed: list[tuple[str, datetime, dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)


def skus_for(*, model: str, kind: str, upstream_model: str) -> list[str]:
    """Where the price of a deployment is looked up, first match first: the model's own, else the list price."""
    return [f"model:{model}", f"{kind}/{upstream_model}"]


def price_from_row(row: Mapping[str, Any]) -> Price | None:
    """A row of PRICES_SQL; None where the price was withdrawn. `rates` may be decoded JSON or its text."""
    rates = msgspec.json.decode(row["rates"]) if isinstance(row["rates"], str) else row["rates"]
    if not rates:
        return None
    decoded = msgspec.convert(rates, Rates)
    return Price(version_id=row["id"], sku=row["sku"], rates=decoded, valid_until=row["valid_until"])


def price_for(skus: Sequence[str], *, at: datetime) -> Price | None:
    """The price in force at a moment, of the first sku that has one."""
    with connection.cursor() as cursor:
        cursor.execute(PRICES_SQL, {"skus": list(skus), "at": at})
        names = [column.name for column in cursor.description or ()]
        found = {row["sku"]: row for row in (dict(zip(names, values, strict=True)) for values in cursor.fetchall())}
    prices = (price_from_row(found[sku]) for sku in skus if sku in found)
    return next((price for price in prices if price), None)


def declare(sku: str, *, rates: Rates | None, source: str) -> str:
    """Makes `rates` the price of a sku from now on (None withdraws it) → created, changed, withdrawn or unchanged.

    What is declared last counts in the end: where another host, whose clock is ahead, has declared before, that begins first,
    and this follows it at once. What is announced for later than a clock is ahead still comes. The caller announces the change
    of the catalogue.
    """
    wanted, now = encoded(rates) if rates else WITHDRAWN, timezone.now()
    last = PriceVersion.objects.filter(sku=sku, valid_from__lte=now + CLOCKS_APART).order_by("-valid_from").first()
    if (last.rates if last else WITHDRAWN) == wanted:
        return "unchanged"
    begins = max(now, last.valid_from + timedelta(microseconds=1)) if last else now
    PriceVersion.objects.create(sku=sku, valid_from=begins, source=source, rates=wanted)
    if not wanted:
        return "withdrawn"
    return "changed" if last and last.rates else "created"


@transaction.atomic
def adopt(skus: Iterable[str], *, dry_run: bool = False) -> list[str]:
    """Gives names that the list only matches by rule (dated ones) rows of their own; → those that have no price.

    From then on `sync` keeps them like any other, and calls never need the package's rules.
    """
    missing = _without_rows(skus)
    if missing and not dry_run:
        sync()
        missing = _without_rows(missing)
    matched = {sku: timeline for sku in sorted(missing) if (timeline := price_list.match(sku))}
    if matched and not dry_run:
        _append(matched)
    return sorted(missing - set(matched))


@transaction.atomic
def sync(*, dry_run: bool = False) -> SyncReport:
    """Brings the list prices up to the installed package. Cheap where this package was already synchronised."""
    report = SyncReport(price_list.source())
    if not dry_run and PriceVersion.objects.filter(source=report.source).exists():
        report.up_to_date = True
        return report
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE billing_priceversion IN SHARE ROW EXCLUSIVE MODE")
    existing = _seeded_timelines()
    listed = price_list.read()
    report.unlisted = listed.unlisted
    adopted = {sku: timeline for sku in existing.keys() - listed.timelines.keys() if (timeline := price_list.match(sku))}
    now = timezone.now()
    additions: dict[str, Timeline] = {}
    declared = set(PriceVersion.objects.exclude(source__startswith=price_list.PACKAGE).values_list("sku", flat=True))
    for sku, wanted in {**listed.timelines, **adopted}.items():
        if sku in declared:
            continue  # an operator's price wins over the list
        if missing := missing_versions(existing.get(sku, []), wanted=wanted, now=now):
            additions[sku] = missing
            _note(report, sku, before=existing.get(sku, []), missing=missing)
    if additions and not dry_run:
        _append(additions)
    return report


@transaction.atomic
def sync_by(operator: Operator) -> SyncReport:
    """`sync` in somebody's name: it stands in the trail of no organisation."""
    report = sync()
    if report.added or report.changed:
        latest = PriceVersion.objects.filter(source=report.source).latest("pk")
        after: dict[str, str | int] = {"source": report.source, "added": len(report.added), "changed": len(report.changed)}
        audit_as(operator.user, "prices.synced", organization=None, origin=operator.origin, target=latest, after=after)
    return report


def missing_versions(existing: Timeline, *, wanted: Timeline, now: datetime) -> Timeline:
    """What must be appended so that the rates from now on are those wanted. The past is never rewritten.

    A sku without rows gets its whole history. Otherwise each present or future moment at which either
    timeline changes is compared; a moment already taken by other rates is overruled a microsecond later.
    """
    if not existing:
        return wanted
    known, missing = dict(existing), []
    moments = {now} | {moment for moment, _ in [*existing, *wanted] if moment > now}
    for moment in sorted(moments):
        right = _at(wanted, moment)
        # A moment overruled by an earlier synchronisation is right from a microsecond later on.
        after = moment + timedelta(microseconds=1)
        if right is not None and _at(sorted(known.items(), key=lambda version: version[0]), after) != right:
            begins = after if moment in known else moment
            known[begins] = right
            missing.append((begins, right))
    return missing


def _without_rows(skus: Iterable[str]) -> set[str]:
    return set(skus) - set(PriceVersion.objects.filter(sku__in=list(skus)).values_list("sku", flat=True))


def _at(timeline: Timeline, moment: datetime) -> Rates | None:
    return next((rates for begins, rates in reversed(timeline) if begins <= moment), None)


def _seeded_timelines() -> dict[str, Timeline]:
    found: dict[str, Timeline] = defaultdict(list)
    seeded = PriceVersion.objects.filter(source__startswith=price_list.PACKAGE).order_by("valid_from")
    for sku, moment, rates in seeded.values_list("sku", "valid_from", "rates"):
        found[sku].append((moment, msgspec.convert(rates, Rates)))
    return found


def _append(additions: Mapping[str, Timeline]) -> None:
    PriceVersion.objects.bulk_create(
        [
            PriceVersion(sku=sku, valid_from=moment, source=price_list.source(), rates=encoded(rates))
            for sku, timeline in additions.items()
            for moment, rates in timeline
        ],
        batch_size=1000,
    )
    epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def _note(report: SyncReport, sku: str, *, before: Timeline, missing: Timeline) -> None:
    if not before:
        report.added.append(sku)
        return
    for moment, rates in missing:
        old = _at(before, moment)
        report.changed.append((sku, moment, encoded(old) if old else {}, encoded(rates)))
