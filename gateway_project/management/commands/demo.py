from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser

from gateway_project.demo import history, organization
from gateway_project.demo.organization import Demo
from gateway_project.lib.commands import ServedCommand
from orgs.errors import Refused

DAYS, CALLS = 30, 20_000
MOST_DAYS, MOST_CALLS = 370, 200_000
# A line of progress for so many days written.
DAYS_PER_LINE = 5


class Command(ServedCommand):
    help = "Makes the demo organisation if it is missing, and tells how to use it; --history also gives it a past."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for scripts: addresses, API key and logins as JSON")
        parser.add_argument("--create", action="store_true", help="also on an installation that has other users")
        parser.add_argument("--history", action="store_true", help="write invented calls of the last days into the ledger")
        parser.add_argument("--days", type=int, default=DAYS, help=f"of history ({DAYS})")
        parser.add_argument("--calls", type=int, default=CALLS, help=f"of history, about ({CALLS:,})")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["history"] and not (1 <= options["days"] <= MOST_DAYS and 1 <= options["calls"] <= MOST_CALLS):
            raise CommandError(f"Give --days from 1 to {MOST_DAYS} and --calls from 1 to {MOST_CALLS:,}.")
        try:
            demo = organization.ensure(beside_others=options["create"])
            if options["history"]:
                self._write_history(days=options["days"], calls=options["calls"])
                return
        except (organization.NotADemo, history.Busy, Refused) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(as_json(demo) if options["json"] else as_text(demo))

    def _write_history(self, *, days: int, calls: int) -> None:
        found = organization.find()
        if found is None:
            raise CommandError("The demo organisation has disappeared.")
        began = time.monotonic()
        written = history.write(found, days=days, calls=calls, progress=self._progress(days))
        if written.days:
            self.stdout.write(f"demo history: {written.calls:,} calls written in {time.monotonic() - began:.1f} s")
        else:
            self.stdout.write("demo history: it is there already, nothing was written")

    def _progress(self, days: int) -> Callable[[date, int], None]:
        total = {"days": 0, "calls": 0}

        def tell(day: date, calls: int) -> None:
            total["days"] += 1
            total["calls"] += calls
            if total["days"] % DAYS_PER_LINE == 0:
                self.stdout.write(f"demo history: back to {day:%d %B}, {total['days']} of {days} days, {total['calls']:,} calls")

        return tell


def as_json(demo: Demo) -> str:
    users = [login._asdict() for login in demo.users]
    facts = {"gateway_url": demo.gateway_url, "console_url": demo.console_url, "api_key": demo.api_key, "users": users}
    return json.dumps(facts, indent=2)


def as_text(demo: Demo) -> str:
    width = max(len(login.email) for login in demo.users)
    return "\n".join(
        [
            f"Console   {demo.console_url}",
            f"Gateway   {demo.gateway_url}/v1",
            f"API key   {demo.api_key}",
            f"Password  {demo.users[0].password}   (of everybody below)",
            "",
            *(f"  {login.email:<{width}}  {login.role}" for login in demo.users),
        ]
    )
