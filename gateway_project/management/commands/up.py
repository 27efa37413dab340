from typing import Any

from django.core.management.base import BaseCommand

from gateway_project.embedded import up


class Command(BaseCommand):
    help = "Starts everything on this machine: PostgreSQL, Valkey, web server, background work, demo organisation."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        up.main()
