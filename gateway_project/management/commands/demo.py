from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError
from redis.exceptions import RedisError

from gateway_project.demo import organization
from gateway_project.demo.organization import Demo
from orgs.errors import Refused


class Command(BaseCommand):
    help = "Makes the demo organisation if it is missing, and tells how to use it."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for scripts: addresses, API key and logins as JSON")
        parser.add_argument("--create", action="store_true", help="also on an installation that has other users")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            demo = organization.ensure(beside_others=options["create"])
        except (organization.NotADemo, Refused) as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError("PostgreSQL cannot be reached: is Gatehouse running? `make run` starts it.") from error
        except RedisError as error:
            raise CommandError("Redis or Valkey cannot be reached: is Gatehouse running? `make run` starts it.") from error
        self.stdout.write(as_json(demo) if options["json"] else as_text(demo))


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
