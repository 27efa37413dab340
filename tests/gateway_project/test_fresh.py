"""An empty database, made at once, against one that every migration has changed in its turn."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import unified_diff
from importlib import import_module
from io import StringIO

import pytest
from django.core.management import BaseCommand, call_command
from django.core.management.commands import migrate as django_migrate
from django.db import DataError, connection
from django.db.migrations import RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

from gateway_project import fresh
from gateway_project.embedded import binaries
from gateway_project.management.commands import migrate

NAME = "gatehouse_fresh"
WHEN = re.compile(r"(INSERT INTO public\.django_migrations .*), '[^']*'\);$")
KEY = re.compile(r"\\(un)?restrict .*")  # a new one in every dump


@contextmanager
def empty_database() -> Iterator[None]:
    """To which the connection leads meanwhile."""
    others = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {NAME}")
    connection.close()
    connection.settings_dict["NAME"] = NAME
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = others
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {NAME}")


@pytest.fixture
def empty(committed_db: None) -> Iterator[None]:
    with empty_database():
        yield


def add_step(patches: pytest.MonkeyPatch, step: Operation) -> None:
    """To a migration that stands among the others."""
    migration = import_module("orgs.migrations.0006_rotated_keys").Migration
    patches.setattr(migration, "operations", [*migration.operations, step])


def tables() -> list[str]:
    return connection.introspection.table_names()


def dumped(*options: str) -> list[str]:
    given = connection.get_connection_params()
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
    variables = {variable: str(given[name]) for variable, name in names.items() if given.get(name)}
    command = [str(binaries.postgres_folder() / "bin" / "pg_dump"), *options, NAME]
    ended = subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True, text=True)
    return KEY.sub("", ended.stdout).splitlines()


def migrated(command: BaseCommand) -> list[str]:
    """Schema and rows of an empty database after this; when a migration was applied is left out."""
    with empty_database():
        call_command(command, verbosity=0, interactive=False)
        rows = (WHEN.sub(r"\1", line) for line in dumped("--data-only", "--inserts"))
        return [*dumped("--schema-only"), *sorted(rows)]


@pytest.mark.usefixtures("committed_db")
def test_it_becomes_what_all_migrations_one_by_one_make_of_it() -> None:
    at_once, one_by_one = migrated(migrate.Command()), migrated(django_migrate.Command())
    assert list(unified_diff(one_by_one, at_once, "one by one", "at once", lineterm="")) == []
    assert any("CREATE TRIGGER append_only" in line for line in at_once)
    assert sum("INTO public.django_migrations" in line for line in at_once) > 70


@pytest.mark.usefixtures("empty")
def test_what_carries_over_earlier_rows_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    add_step(monkeypatch, RunSQL("SELECT 1 / 0", elidable=True))
    out = StringIO()
    call_command("migrate", stdout=out)
    assert out.getvalue().startswith("The database was empty: it has all its tables now.\n")
    assert "No migrations to apply." in out.getvalue()


@pytest.mark.usefixtures("empty")
def test_it_stays_empty_when_a_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    add_step(monkeypatch, RunSQL("SELECT 1 / 0"))
    with pytest.raises(DataError):
        call_command("migrate", verbosity=0)
    assert tables() == []


@pytest.mark.usefixtures("empty")
def test_a_step_that_may_do_anything_is_left_to_django(monkeypatch: pytest.MonkeyPatch) -> None:
    add_step(monkeypatch, SeparateDatabaseAndState([RunSQL("SELECT 1")]))
    assert not fresh.fill(connection)
    assert tables() == []


@pytest.mark.usefixtures("empty")
def test_a_database_with_a_table_is_left_to_django() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_somebody_else ()")
    assert not fresh.fill(connection)
    assert tables() == ["of_somebody_else"]


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("asked", [["--plan"], ["--check"], ["contenttypes", "0001"]])
def test_whoever_asks_for_something_else_gets_that(asked: list[str]) -> None:
    with suppress(SystemExit):
        call_command("migrate", *asked, stdout=StringIO())
    assert set(tables()) <= {"django_migrations", "django_content_type"}
