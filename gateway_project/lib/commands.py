"""What the commands of manage.py have in common: without its servers a command ends with one line and an exit code of its own."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable

# The command could not do its work, as with wrong arguments: 1 is left to those that say something was found.
NOT_DONE = 2
START = "is Gatehouse running? `make run` starts it."


class ServedCommand(BaseCommand):
    """A command that needs PostgreSQL, and perhaps Redis: where one fails it, CommandError says which, with exit code 2."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except (OperationalError, InterfaceError, DatabaseUnavailable) as error:
            raise CommandError(f"PostgreSQL cannot be reached: {START}", returncode=NOT_DONE) from error
        except (RedisError, RedisUnavailable) as error:
            raise CommandError(f"Redis or Valkey cannot be reached: {START}", returncode=NOT_DONE) from error
