"""The database of a run that is spread over processes: migrated once, its files copied by each of them.

`python -m tests.template FOLDER` leaves a stopped cluster in it, with the test database that Django made.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import django

from gateway_project import environment
from gateway_project.embedded import places
from gateway_project.embedded.postgres import Postgres
from gateway_project.lib import garbage

# Variables of the run, inherited by its processes: the folder of the template, and the password of its database.
FOLDER, PASSWORD = "GATEHOUSE_TEST_TEMPLATE", "GATEHOUSE_TEST_PASSWORD"
DONE = "done"
DATABASE = "test_gatehouse"  # as Django names it
WAIT_SECONDS = 300
ROOT = Path(__file__).resolve().parent.parent


def begin(folder: Path) -> subprocess.Popen[bytes]:
    """Beside the processes of the run, which meanwhile look for their tests."""
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "tests.template", str(folder)], cwd=ROOT, stdout=log, stderr=log)


def present() -> bool:
    return FOLDER in os.environ


def copy(postgres: Postgres) -> None:
    """Waits for the template and copies it to where this server looks for its files."""
    folder = Path(os.environ[FOLDER])
    until = time.monotonic() + WAIT_SECONDS
    while not (folder / DONE).exists():
        if time.monotonic() > until:
            raise RuntimeError(f"No database after {WAIT_SECONDS} s: {folder / 'log.txt'}")
        time.sleep(0.05)
    if not (folder / DONE).read_text():
        raise RuntimeError((folder / "log.txt").read_text())
    subprocess.run(["cp", "-a", str(folder / "servers" / "postgres"), str(postgres.data)], check=True)  # owners too


def make(folder: Path) -> None:
    postgres = Postgres(places.choose(folder), password=os.environ[PASSWORD], fast=True)
    os.environ |= {
        **environment.generate_secrets(),
        "GATEHOUSE_HOME": str(folder),
        "DATABASE_URL": postgres.url(),
        "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
    }
    postgres.prepare()
    child = postgres.child()
    child.start(lambda name, line: None)
    try:
        django.setup()
        child.wait_until_ready(seconds=30)
        migrate()
    finally:
        child.stop()


def migrate() -> None:
    from django.db import connections
    from django.test.utils import setup_databases

    setup_databases(verbosity=0, interactive=False)
    connections.close_all()


def url() -> str:
    """Where this process' copy is served."""
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{DATABASE}"))


def use() -> None:
    """Lets Django look for its rows where `migrate` has made their tables."""
    from django.db import connections

    for connection in connections.all():
        connection.close()
        creation: Any = connection.creation
        connection.settings_dict["NAME"] = creation._get_test_db_name()


def main() -> None:
    garbage.search_seldom()
    folder = Path(sys.argv[1])
    outcome = ""
    try:
        make(folder)
        outcome = "made"
    finally:
        unfinished = folder / f"{DONE}.new"
        unfinished.write_text(outcome)
        unfinished.rename(folder / DONE)


if __name__ == "__main__":
    main()
