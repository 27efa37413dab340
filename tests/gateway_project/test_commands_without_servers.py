"""Commands while PostgreSQL or Redis is away: one line that says so, and an exit code that no finding has."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import DataError, InterfaceError, OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway_project.lib.commands import NOT_DONE, ServedCommand
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.redis import RedisUnavailable
from tests import children
from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[2]
APPS = ("gateway_project", "orgs", "billing", "guardrails", "proxy", "analytics", "notifications")
# They start the servers themselves, talk HTTP, or read files.
SELF_SUFFICIENT = {"up", "bench", "replay", "score_routing", "train_routing"}
# Statements that take too long or wait for a lock are no outage: it says which.
IN_FULL = {"migrate"}
POSTGRESQL = "PostgreSQL cannot be reached: is Gatehouse running? `make run` starts it."
REDIS = "Redis or Valkey cannot be reached: is Gatehouse running? `make run` starts it."
# Of nobody: port 9 is discard's, and every setting that a state folder would give is there.
ALONE = {
    "DATABASE_URL": "postgresql://gatehouse@127.0.0.1:9/gatehouse",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "SECRET_KEY": "k" * 60,
    "GATEHOUSE_PEPPER": "cGVwcGVycGVwcGVycGVwcGVycGVwcGVycGVwcGVyMDA=",
    "GATEHOUSE_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
}


class Failing(ServedCommand):
    requires_system_checks = ()
    error: Exception = OperationalError()

    def handle(self, *args: Any, **options: Any) -> None:
        raise self.error


def failing(error: Exception) -> Failing:
    command = Failing(stdout=StringIO(), stderr=StringIO())
    command.error = error
    return command


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OperationalError("connection refused\nIs the server running?"), POSTGRESQL),
        (InterfaceError("connection already closed"), POSTGRESQL),
        (DatabaseUnavailable(), POSTGRESQL),
        (RedisConnectionError("connection refused"), REDIS),
        (RedisTimeoutError("too slow"), REDIS),
        (RedisUnavailable("did not answer"), REDIS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_outage_is_one_line_and_an_exit_code_of_its_own(error: Exception, line: str) -> None:
    command = failing(error)
    with pytest.raises(SystemExit) as ended:
        command.run_from_argv(["manage.py", "failing"])
    assert ended.value.code == NOT_DONE
    assert command.stderr._out.getvalue() == f"CommandError: {line}\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [DataError("value too long"), ValueError("a fault of ours")])
def test_a_fault_is_no_outage(error: Exception) -> None:
    with pytest.raises(type(error)):
        failing(error).run_from_argv(["manage.py", "failing"])


def test_a_command_of_ours_says_so_or_needs_no_server() -> None:
    ours = {name: app for name, app in get_commands().items() if isinstance(app, str) and app in APPS}
    assert set(ours) >= SELF_SUFFICIENT | {"prove_counters", "verify_audit", "sync_prices", "rotate_keys", "demo"}
    unserved = {name for name, app in ours.items() if not isinstance(load_command_class(app, name), ServedCommand)}
    assert unserved == SELF_SUFFICIENT | IN_FULL


@pytest.mark.django_db
@pytest.mark.parametrize(
    "words",
    [
        ["prove_counters", "--organization", "nobody"],
        ["verify_audit", "--org", "nobody"],
        ["verify_audit", "--head", f"1:{'0' * 64}"],
    ],
)
def test_what_could_not_be_compared_does_not_differ(words: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command(*words, stdout=StringIO())
    assert refused.value.returncode == NOT_DONE


def alone(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "GATEHOUSE_HOME": str(home)}


def by_hand(words: list[str], home: Path, settings: dict[str, str]) -> tuple[int, str]:
    """Started, since settings that cannot be read are what it tells."""
    command = [sys.executable, "manage.py", *words]
    ended = subprocess.run(command, cwd=ROOT, env=alone(home) | settings, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("words", [["prove_counters"], ["verify_audit"]], ids=" ".join)
def test_beside_a_product_that_is_stopped(forks: Forks, words: list[str], tmp_path: Path) -> None:
    ended = children.run(forks, "-m", "manage", *words, variables={**alone(tmp_path), **ALONE}, seconds=60)
    assert ended == (NOT_DONE, f"CommandError: {POSTGRESQL}")


def test_beside_a_product_that_never_ran(tmp_path: Path) -> None:
    ended = by_hand(["verify_audit"], tmp_path, {})
    assert ended == (
        NOT_DONE,
        f"{tmp_path} holds no Gatehouse. Set GATEHOUSE_HOME to the folder that `make run` used, as the user it ran as, or begin"
        " here with `make run`; where secrets come from elsewhere, set SECRET_KEY, GATEHOUSE_PEPPER, GATEHOUSE_KEYS.\n",
    )


def test_beside_a_product_with_one_secret_only_the_others_are_named(tmp_path: Path) -> None:
    code, text = by_hand(["org", "export", "acme"], tmp_path, {"SECRET_KEY": "x" * 50, "GATEHOUSE_KEYS": "k:eA=="})
    assert code == NOT_DONE
    assert text.endswith("set GATEHOUSE_PEPPER.\n")
