"""The demo organisation in tests: made in a database that others use too, or in one that seems empty."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_django import Settings

if TYPE_CHECKING:
    from orgs.models import Organization


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
    from django.db import connection

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

    with connection.cursor() as cursor:
        # What no code may do to the audit trail a test undoes afterwards.
        cursor.execute("ALTER TABLE orgs_auditevent DISABLE TRIGGER no_truncate")
        cursor.execute("TRUNCATE orgs_user, orgs_organization, proxy_model, proxy_provider, billing_priceversion CASCADE")
        cursor.execute("ALTER TABLE orgs_auditevent ENABLE TRIGGER no_truncate")


@pytest.fixture
def northwind(nobody: None) -> Organization:
    """A fresh demo organisation, undone after the test."""
    from gateway_project.demo import organization

    told()
    found = organization.find()
    assert found is not None
    return found


@pytest.fixture
def lasting_demo(committed_db: None) -> dict[str, Any]:
    """The one demo organisation of this test run that other processes see too, as `demo --json` tells it."""
    return told("--create")
