"""PostgreSQL and Valkey of a test run: the embedded ones in a throwaway folder, unless DATABASE_URL / REDIS_URL name others.

Their addresses are known before Django reads its settings, which take everything from the environment. Where a run is
spread over processes (tests/spread.py), each has servers of its own, and a copy of one database (tests/template.py).
"""

import importlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import django
import pytest
from pytest_django.plugin import DjangoDbBlocker

from gateway_project import environment
from gateway_project.embedded import places, prepare
from gateway_project.embedded.child import Child
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.valkey import Valkey
from gateway_project.lib import large_pages
from tests import folders, rewriting, template
from tests.forks import Forks, read_settings
from tests.sweeping import Sweeper

FOLDER = pytest.StashKey[Path]()
IN_USE = pytest.StashKey[IO[bytes]]()
CHILDREN = pytest.StashKey[list[Child]]()
SERVERS = pytest.StashKey[list[Valkey | Postgres]]()
TEMPLATE = pytest.StashKey[subprocess.Popen[bytes]]()
FORKS = pytest.StashKey[Forks]()
SWEEPER = pytest.StashKey[Sweeper]()
COMPILING = pytest.StashKey[int | None]()
GIVEN = ("DATABASE_URL", "REDIS_URL")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.spread and any(name in os.environ for name in GIVEN):
        raise pytest.UsageError("Servers that were given are one set, and so is the run on them: --spread has its own.")
    folder, config.stash[IN_USE] = folders.make()
    folder.chmod(0o711)  # as root, the servers' own account passes through
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
    for name, value in environment.generate_secrets().items():
        os.environ.setdefault(name, value)
    if config.option.spread:
        os.environ |= {template.FOLDER: str(folder), template.PASSWORD: secrets.token_urlsafe(16)}
        config.stash[TEMPLATE] = template.begin(folder)
        config.stash[COMPILING] = rewriting.begin(config, Path(__file__).parent)
    settle(config, folder)
    if config.option.spread and sys.platform == "linux":
        config.stash[FORKS] = Forks().start()
    # For each of its classes it looks through all modules there are, so it comes while they are few: half a second less.
    importlib.import_module("scim2_models")
    django.setup()
    prepare.collect_static()  # pages ask the manifest for the names of their files


def settle(config: pytest.Config, folder: Path) -> None:
    """The state folder, and the addresses of the servers that are to run there."""
    config.stash[FOLDER], config.stash[CHILDREN], config.stash[SERVERS] = folder, [], []
    os.environ["GATEHOUSE_HOME"] = str(folder)
    place = places.choose(folder)
    if "REDIS_URL" not in os.environ:
        config.stash[SERVERS].append(Valkey(place, fast=True))
        os.environ["REDIS_URL"] = config.stash[SERVERS][-1].url()
    if "DATABASE_URL" not in os.environ:
        password = os.environ.get(template.PASSWORD) or secrets.token_urlsafe(16)
        config.stash[SERVERS].append(Postgres(place, password=password, fast=True))
        os.environ["DATABASE_URL"] = config.stash[SERVERS][-1].url()


def pytest_collection_finish(session: pytest.Session) -> None:
    """No test is looked for in the database; meanwhile its template comes into being."""
    if (pid := session.config.stash.get(COMPILING, None)) is not None:
        os.waitpid(pid, 0)
        session.config.stash[COMPILING] = None
    if not session.config.option.spread:
        begin(session.config)


def begin(config: pytest.Config) -> None:
    for server in config.stash[SERVERS]:
        if isinstance(server, Postgres):
            template.copy(server) if template.present() else server.prepare()
        child = server.child()
        config.stash[CHILDREN].append(child)
        child.start(forget)
        child.wait_until_ready(seconds=30)
    large_pages.use()  # all code and all tests are there, and this process is the one that runs them


def pytest_forked(config: pytest.Config, place: int) -> None:
    """Each process of a spread run has a state folder below that of the run, and servers there."""
    whole = config.stash[FOLDER]
    for address in GIVEN:
        del os.environ[address]
    folder = whole / str(place)
    folder.mkdir()
    folder.chmod(0o711)
    (folder / "static").symlink_to(whole / "static")
    settle(config, folder)
    read_settings()
    prepare.collect_static()
    begin(config)
    config.stash[SWEEPER] = Sweeper(template.url())


def pytest_before_file(config: pytest.Config) -> None:
    config.stash[SWEEPER].sweep()


def pytest_forked_ends(config: pytest.Config) -> None:
    if SWEEPER in config.stash:
        config.stash[SWEEPER].close()
    for child in config.stash.get(CHILDREN, []):
        end(child)


def end(child: Child) -> None:
    """At once: nothing in it is kept.

    A PostgreSQL that gets SIGKILL leaves segments of shared memory behind, and the kernel has room for 4096 of all processes.
    SIGQUIT is its "immediate shutdown".
    """
    if child.name == "postgres" and child.exit_code is None:
        os.kill(child.pid, signal.SIGQUIT)
        child.stop()
    child.stop(at_once=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if TEMPLATE in config.stash:
        config.stash[TEMPLATE].wait()
    if FORKS in config.stash:
        config.stash[FORKS].close()
    pytest_forked_ends(config)
    if FOLDER in config.stash:
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


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
