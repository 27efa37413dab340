from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from gateway_project.lib.commands import NOT_DONE, ServedCommand
from gateway_project.lib.money import exact_usd
from orgs.models import Organization
from proxy import proving
from proxy.proving import Difference

COLUMNS = "{:<28} {:<12} {:<28} {:>22} {:>22} {:>18}"


class Command(ServedCommand):
    help = (
        "Compares every counter in Redis with the ledger. "
        "Exit 1, with a table, where any figure differs; 2 where it could not compare."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", help="slug of one organisation (all)")
        parser.add_argument("--correct", action="store_true", help="read counters that differ anew: spend from the ledger")

    def handle(self, *args: Any, **options: Any) -> None:
        organizations = Organization.objects.order_by("pk")
        if options["organization"]:
            organizations = organizations.filter(slug=options["organization"])
            if not organizations:
                raise CommandError(f"There is no organisation {options['organization']!r}.", returncode=NOT_DONE)
        counted = busy = 0
        differences: list[Difference] = []
        for organization in organizations.iterator():
            proof = proving.prove(organization)
            if options["correct"]:
                proving.correct(organization, proof.differences)
            counted, busy = counted + proof.counters, busy + proof.busy
            differences += proof.differences
        self._print(differences)
        word = "corrected" if options["correct"] else "found"
        self.stdout.write(f"{counted} counters, {busy} of them busy, {len(differences)} differences {word}")
        if differences:
            raise SystemExit(1)

    def _print(self, differences: list[Difference]) -> None:
        if differences:
            self.stdout.write(COLUMNS.format("organisation", "subject", "figure", "counted USD", "expected USD", "difference"))
        for one in differences:
            # The number of running calls is no money.
            shown = str if one.figure == proving.LIVE else exact_usd
            figures = (shown(amount) for amount in (one.counted, one.expected, one.counted - one.expected))
            self.stdout.write(COLUMNS.format(one.organization[:28], one.subject, one.figure, *figures))
