"""List prices for the operator: what is kept, what the installed package knows, and the difference."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count, Max

from billing import price_list, prices
from billing.models import PriceVersion
from gateway_project.lib.money import exact_usd

# Movements of credit that are shown.
LATEST = 8


class Source(NamedTuple):
    """Where prices came from: how many versions, the latest of which begins then; None: all have counted since ever."""

    name: str
    versions: int
    latest: datetime | None


class Change(NamedTuple):
    """One kind of tokens of a sku that would cost another amount; texts per million, or `none`. `since`: as `Source.latest`."""

    sku: str
    since: datetime | None
    words: list[str]


def sources() -> list[Source]:
    found = PriceVersion.objects.values("source").annotate(versions=Count("pk"), latest=Max("valid_from")).order_by("-latest")
    return [Source(row["source"], row["versions"], _told(row["latest"])) for row in found]


def installed() -> str:
    """The name that prices of the installed package carry."""
    return price_list.source()


def changes(report: prices.SyncReport) -> list[Change]:
    return [Change(sku, _told(since), _words(old, new)) for sku, since, old, new in report.changed]


def _told(moment: datetime) -> datetime | None:
    """A price without a date counts from the beginning of all time, which is no date to tell anybody."""
    return moment if moment > price_list.BEGINNING else None


def _words(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    kinds = [kind for kind in {**old, **new} if old.get(kind) != new.get(kind)]
    return [f"{kind.replace('_', ' ')} {_usd(old.get(kind))} → {_usd(new.get(kind))}" for kind in kinds]


def _usd(value: Any) -> str:
    if value is None:
        return "none"
    return f"${exact_usd(value)}" if isinstance(value, int) else f"{len(value)} entries"
