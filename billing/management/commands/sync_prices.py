"""`manage.py sync_prices [--dry-run] [--json]`: brings list prices up to the installed genai-prices package."""

from argparse import ArgumentParser
from typing import Any

import msgspec

from billing import prices
from gateway_project.lib.commands import ServedCommand
from gateway_project.lib.money import exact_usd


class Command(ServedCommand):
    help = "Appends new and changed list prices of the installed genai-prices package; never rewrites one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="compare every price and show what would be appended")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        report = prices.sync(dry_run=options["dry_run"])
        if options["json"]:
            self.stdout.write(msgspec.json.encode(report).decode())
            return
        for line in lines_of(report, dry_run=options["dry_run"]):
            self.stdout.write(line)


def lines_of(report: prices.SyncReport, *, dry_run: bool) -> list[str]:
    if report.up_to_date:
        return [f"Prices are those of {report.source}: nothing to do."]
    changes = [f"{sku} from {moment:%Y-%m-%d %H:%M}: {difference(old, new)}" for sku, moment, old, new in report.changed]
    verb = "would be appended" if dry_run else "appended"
    total = f"{report.source}: {len(report.added)} new skus, {len(report.changed)} changed versions {verb}."
    return [*changes, total, f"{len(report.unlisted)} models have no listing (not per token, or not exact)."]


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """`input $0.25 → $0.3 per million`, for each kind that differs; tiers are named only."""
    kinds = [kind for kind in {**old, **new} if old.get(kind) != new.get(kind)]
    return ", ".join(f"{kind} {_usd(old.get(kind))} → {_usd(new.get(kind))}" for kind in kinds)


def _usd(value: Any) -> str:
    if value is None:
        return "none"
    return f"${exact_usd(value)}" if isinstance(value, int) else f"{len(value)} entries"
