"""What runs here: our own version, that of what we stand on, and whether the database is on the same level."""

from __future__ import annotations

import platform
import tomllib
from functools import cache
from typing import NamedTuple

import django
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from gateway_project.lib import redis


class Versions(NamedTuple):
    """Texts for people; `missing_migrations` counts what `manage.py migrate` would still do."""

    gatehouse: str
    python: str
    django: str
    postgresql: str
    valkey: str
    missing_migrations: int


def versions() -> Versions:
    return Versions(
        _gatehouse(), platform.python_version(), django.get_version(), _postgresql(), _valkey(), _missing_migrations()
    )


@cache
def _gatehouse() -> str:
    """Of the project's file, since the project is no package that is installed."""
    facts = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())
    return str(facts["project"]["version"])


def _postgresql() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def _valkey() -> str:
    """Valkey tells its own version beside the Redis version it stands in for."""
    try:
        facts = redis.client().info("server")
    except RedisError:
        return "away"
    name = str(facts.get("server_name", "redis")).title()
    return f"{name} {facts.get('valkey_version') or facts.get('redis_version')}"


def _missing_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
