"""PostgreSQL and Valkey of a test run: the embedded ones in a throwaway folder, unless DATABASE_URL / REDIS_URL name others.

Their addresses are known before Django reads its settings, which take everything from the environment. Where pytest-xdist
spreads the run over processes, each has servers of its own, and a copy of one database (tests/template.py).
"""

import importlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from pytest_django.plugin import DjangoDbBlocker

from gateway_project import environment
from gateway_project.embedded import places, prepare
from gateway_project.embedded.child import Child
from gateway_project.embedded.places import Place
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.valkey import Valkey
from tests import template

FOLDER = pytest.StashKey[Path]()
CHILDREN = pytest.StashKey[list[Child]]()
POSTGRES = pytest.StashKey[Postgres]()
TEMPLATE = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    spread = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if spread and "DATABASE_URL" in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-test-"))
    folder.chmod(0o711)  # as root, the servers' own account passes through
    config.stash[FOLDER], config.stash[CHILDREN] = folder, []
    if spread:
        # Its workers run the tests; they must not inherit the name of settings that cannot be read yet.
        os.environ |= {template.FOLDER: str(folder), template.PASSWORD: secrets.token_urlsafe(16)}
        config.stash[TEMPLATE] = template.begin(folder)
        return
    os.environ["GATEHOUSE_HOME"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
    for name, value in environment.generate_secrets().items():
        os.environ.setdefault(name, value)
    place = places.choose(folder)
    if "REDIS_URL" not in os.environ:
        start_valkey(place, children=config.stash[CHILDREN])
    if "DATABASE_URL" not in os.environ:
        password = os.environ.get(template.PASSWORD) or secrets.token_urlsafe(16)
        config.stash[POSTGRES] = Postgres(place, password=password, fast=True)
        os.environ["DATABASE_URL"] = config.stash[POSTGRES].url()
    # For each of its classes it looks through all modules there are, so it comes while they are few: half a second less.
    importlib.import_module("scim2_models")
    django.setup()
    prepare.collect_static()  # pages ask the manifest for the names of their files


def pytest_collection_finish(session: pytest.Session) -> None:
    """No test is looked for in the database; meanwhile its template comes into being."""
    if POSTGRES in session.config.stash:
        start_postgres(session.config.stash[POSTGRES], children=session.config.stash[CHILDREN])


def pytest_unconfigure(config: pytest.Config) -> None:
    if TEMPLATE in config.stash:
        config.stash[TEMPLATE].wait()
    if FOLDER in config.stash:
        for child in config.stash[CHILDREN]:
            child.stop(at_once=True)  # nothing in it is kept
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


def start_valkey(place: Place, *, children: list[Child]) -> None:
    valkey = Valkey(place, fast=True)
    children.append(valkey.child())
    children[-1].start(forget)
    os.environ["REDIS_URL"] = valkey.url()
    children[-1].wait_until_ready(seconds=30)


def start_postgres(postgres: Postgres, *, children: list[Child]) -> None:
    if template.present():
        template.copy(postgres)
    else:
        postgres.prepare()
    children.append(postgres.child())
    children[-1].start(forget)
    children[-1].wait_until_ready(seconds=30)


def forget(name: str, line: str) -> None:
    """The last lines of a server that fails stand in the error all the same."""


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> None:
    """The test database, whichever fixture asks: pytest-django's own makes it only for tests that use `db`.

    Nobody takes it down: processes of the tests may still be connected, and with its server it goes.
    """
    from django.test.utils import setup_databases

    if template.present():
        template.use()
        return
    with django_db_blocker.unblock():
        setup_databases(verbosity=0, interactive=False)


@pytest.fixture
def committed_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The database without a wrapping transaction: other processes see every row. Nothing is flushed.

    The connection stays for the next test, unless this one has left it inside a transaction or broken.
    """
    from django.db import connections

    with django_db_blocker.unblock():
        yield
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                connection.close()
            else:
                connection.close_if_unusable_or_obsolete()
