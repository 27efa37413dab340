"""What has to be true before the web server may answer: static files, database schema, demo organisation.

Runs as a child of `manage.py up`, which stays small and never imports Django; this one imports it while the servers start,
waits for a line on standard input, works, and writes the demo organisation as JSON to `--result-fd`.
"""

import argparse
import hashlib
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import django
from django.conf import settings

from gateway_project.lib import garbage

STAMP = ".collected"
# Compressing takes twenty times as long as collecting, and over loopback it gains nothing. Deployments run `collectstatic`.
PLAIN_STORAGE = {"BACKEND": "gateway_project.lib.static_files.PlainStaticFilesStorage"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result-fd", type=int, required=True)
    result = os.fdopen(parser.parse_args().result_fd, "w")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    garbage.search_seldom()
    django.setup()
    timed("static files", collect_static)
    if not sys.stdin.readline():
        return  # the parent is gone
    check_servers()
    timed("database schema", migrate)
    timed("demo organisation", lambda: result.write(demo()))
    result.close()


def timed(label: str, work: Callable[[], object]) -> None:
    """One line per step that took a person's time."""
    began = time.monotonic()
    work()
    if (seconds := time.monotonic() - began) > 0.1:
        print(f"{label}: {seconds:.1f} s", flush=True)  # noqa: T201


def collect_static() -> None:
    """Only when a source file has changed: names, sizes and times of all of them are compared with the last run's."""
    settings.STORAGES = {**settings.STORAGES, "staticfiles": PLAIN_STORAGE}
    from django.core.management import call_command

    stamp = Path(settings.STATIC_ROOT) / STAMP
    signature = static_signature()
    if stamp.exists() and stamp.read_text() == signature:
        return
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(signature)


def static_signature() -> str:
    from django.contrib.staticfiles.finders import get_finders

    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in sorted(finder.list(None), key=lambda found: found[0]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def check_servers() -> None:
    """Ends with one sentence where DATABASE_URL or REDIS_URL, ours or the operator's, leads nowhere."""
    import redis
    from django.db import OperationalError, connection

    try:
        connection.ensure_connection()
    except OperationalError as error:
        sys.exit(f"PostgreSQL (DATABASE_URL) cannot be reached: {str(error).strip().splitlines()[-1]}")
    try:
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        sys.exit(f"Redis or Valkey (REDIS_URL) cannot be reached: {error}")


def migrate() -> None:
    """Asks first: `migrate` with nothing to do still refreshes permissions and content types, a third of a later start."""
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return
    call_command("migrate", interactive=False, verbosity=0)


def demo() -> str:
    """The demo organisation as JSON; an empty object where people work here already and none is made."""
    from django.core.management import CommandError, call_command

    out = io.StringIO()
    try:
        call_command("demo", "--json", stdout=out)
    except CommandError as error:
        print(error, flush=True)  # noqa: T201
        return "{}"
    return out.getvalue()


if __name__ == "__main__":
    main()
