"""The demo organisation in tests: made in a database that others use too, or in one that seems empty."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_django import Settings
from pytest_django.plugin import DjangoDbBlocker

if TYPE_CHECKING:
    from orgs.models import Organization


QUICK = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def told(*options: str) -> dict[str, Any]:
    """What `manage.py demo --json` prints."""
    result: dict[str, Any] = json.loads(printed("--json", *options))
    return result


def printed(*options: str) -> str:
    from django.core.management import call_command

    out = io.StringIO()
    call_command("demo", *options, stdout=out)
    return out.getvalue()


@pytest.fixture
def state_folder(tmp_path: Path, settings: Settings) -> Path:
    """A state folder of this test's own, so that nobody remembers another demo."""
    settings.GATEHOUSE_HOME = tmp_path
    return tmp_path


@pytest.fixture
def nobody(db: None, state_folder: Path, settings: Settings) -> None:
    """A database without people or organisations; what other tests committed is back afterwards. Passwords are hashed quickly."""
    settings.PASSWORD_HASHERS = QUICK
    empty()


def empty() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        # What no code may do to the audit trail a test undoes afterwards.
        cursor.execute("ALTER TABLE orgs_auditevent DISABLE TRIGGER no_truncate")
        cursor.execute("TRUNCATE orgs_user, orgs_organization, proxy_model, proxy_provider, billing_priceversion CASCADE")
        cursor.execute("ALTER TABLE orgs_auditevent ENABLE TRIGGER no_truncate")


@pytest.fixture(scope="module")
def demo_of_the_module(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A fresh demo organisation in a transaction that lasts as long as the module does; its state folder.

    No test of such a module may use `db` or `committed_db`: they close the connection.
    """
    from django.db import connections, transaction
    from django.test import override_settings

    folder = tmp_path_factory.mktemp("demo")
    with django_db_blocker.unblock():
        with transaction.atomic():
            empty()
            with override_settings(GATEHOUSE_HOME=folder, PASSWORD_HASHERS=QUICK):
                told()
            yield folder
            transaction.set_rollback(True)
        connections.close_all()


@pytest.fixture
def northwind(
    demo_of_the_module: Path, django_db_blocker: DjangoDbBlocker, state_folder: Path, settings: Settings
) -> Iterator[Organization]:
    """The demo organisation as it was made: what the test does to it is undone afterwards."""
    from django.db import transaction

    from gateway_project.demo import organization

    settings.PASSWORD_HASHERS = QUICK
    shutil.copytree(demo_of_the_module, state_folder, dirs_exist_ok=True)
    with django_db_blocker.unblock(), transaction.atomic():
        found = organization.find()
        assert found is not None
        yield found
        transaction.set_rollback(True)


@pytest.fixture
def lasting_demo(committed_db: None) -> dict[str, Any]:
    """The one demo organisation of this test run that other processes see too, as `demo --json` tells it."""
    return told("--create")
