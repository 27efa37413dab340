"""`manage.py verify_audit`: finds an event of the audit trail that was changed, removed, added or moved.

It prints the head of each chain, "<place>:<hash>". Whoever may write to every table of the database could write a whole
chain anew, and its head with it; a head that was noted elsewhere and is given with `--head` shows that too.
"""

import re
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from gateway_project.lib.commands import NOT_DONE, ServedCommand
from orgs.models import Organization
from orgs.verification import Verdict, verify_all, verify_organization


def noted_head(text: str) -> tuple[int, str]:
    if not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", text):
        raise ArgumentTypeError("a head is <place>:<64 hexadecimal digits>, as this command prints it")
    place, _, digest = text.partition(":")
    return int(place), digest


class Command(ServedCommand):
    help = (
        "Verifies the hash chains of the audit trail. "
        "Exit 1 where an event was changed, removed, added or moved; 2 where it could not verify."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--org", metavar="SLUG", help="one organisation; without it all, and the events of none")
        parser.add_argument("--head", type=noted_head, help="of --org: a head that an earlier run printed")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["org"] is None and options["head"]:
            raise CommandError("--head is of one organisation: name it with --org", returncode=NOT_DONE)
        verdicts = list(verify_all()) if options["org"] is None else [self._of_one(options["org"], options["head"])]
        width = max(len(verdict.name) for verdict in verdicts)
        for verdict in verdicts:
            outcome = "ok" if not verdict.faults else f"{len(verdict.faults)} faults"
            self.stdout.write(f"{verdict.name:{width}}  {verdict.event_count:>9} events  {outcome:>10}  {verdict.head}")
            for fault in verdict.faults:
                self.stdout.write(f"{'':{width}}  {fault.words}")
        if broken := [verdict.name for verdict in verdicts if verdict.faults]:
            raise CommandError(f"the audit trail is not what was written: {', '.join(broken)}")

    @staticmethod
    def _of_one(slug: str, noted: tuple[int, str] | None) -> Verdict:
        organization = Organization.objects.filter(slug=slug).first()
        if organization is None:
            raise CommandError(f"there is no organisation {slug!r}", returncode=NOT_DONE)
        return verify_organization(organization, noted=noted)
