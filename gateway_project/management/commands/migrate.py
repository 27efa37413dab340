from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from gateway_project import fresh

# Whoever asks for one of these wants something else than a database that works.
ASKED = ("app_label", "plan", "check_unapplied", "fake", "fake_initial", "prune")


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        asked = any(options[name] for name in ASKED)
        if not asked and fresh.fill(connections[options["database"]]) and options["verbosity"]:
            self.stdout.write("The database was empty: it has all its tables now.")
        super().handle(*args, **options)
