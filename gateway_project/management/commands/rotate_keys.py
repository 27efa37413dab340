from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from proxy import rotating


class Command(BaseCommand):
    help = (
        "Encrypts every stored provider credential with the first key of GATEHOUSE_KEYS. Give all processes the new ring first; "
        "the old key may leave it once this reports nothing left. Exit 1 where a credential does not open."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        unreadable: tuple[str, ...] = ()
        for title, rotate in (
            ("operator's providers", rotating.rotate_providers),
            ("own provider keys", rotating.rotate_provider_keys),
            ("links of invitations", rotating.rotate_invitations),
        ):
            done = rotate()
            unreadable += done.unreadable
            self.stdout.write(
                f"{title}: {done.changed} encrypted anew, {done.current} already current, {len(done.unreadable)} cannot be opened"
            )
        for reason in unreadable:
            self.stderr.write(reason)
        if unreadable:
            raise SystemExit(1)
