from __future__ import annotations

from typing import Any

from gateway_project.lib.commands import ServedCommand
from proxy import rotating


class Command(ServedCommand):
    help = (
        "Encrypts every stored secret with the first key of GATEHOUSE_KEYS. Give all processes the new ring first; "
        "the old key may leave it once this reports nothing left. "
        "Exit 1 where a secret does not open; 2 where the database cannot be reached."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        unreadable: tuple[str, ...] = ()
        for store in rotating.STORES:
            done = rotating.rotate(store)
            unreadable += done.unreadable
            counts = f"{done.changed} encrypted anew, {done.current} already current, {len(done.unreadable)} cannot be opened"
            self.stdout.write(f"{store.title}: {counts}")
        for reason in unreadable:
            self.stderr.write(reason)
        if unreadable:
            raise SystemExit(1)
