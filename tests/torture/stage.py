"""Servers of a run: PostgreSQL, Valkey and web workers of its own in a throwaway folder, and every way to break them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway_project import environment
from gateway_project.embedded import places
from gateway_project.embedded.child import Child, Write
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.valkey import Valkey
from tests import children, forks, servers, template
from tests.gateways import Gateway

LEASE_SECONDS = 4
# Commits survive a killed server (not a power cut, which nobody makes here); tables are vacuumed meanwhile.
DURABLE = ("-c", "synchronous_commit=on", "-c", "fsync=off", "-c", "full_page_writes=off")
VACUUMED = ("-c", "autovacuum=on", "-c", "track_counts=on", "-c", "autovacuum_naptime=1min")
START_SECONDS = 120  # of a busy machine


class Stage:
    """Call `start`, then `open_workers`. Everything is gone after `close`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "servers.log"
        self.workers: list[Gateway] = []
        self.variables: dict[str, str] = {}
        place = places.choose(home)
        self.valkey = Valkey(place)
        self.postgres = Postgres(place, password=os.environ.get(template.PASSWORD, "torture"), fast=True)
        self.valkey_child = self.valkey.child()
        self.postgres_child: Child | None = None
        self.database_url = self.postgres.url(template.DATABASE) if template.present() else self.postgres.url()
        self.forks = children.forks_of_this_process()
        # A child ends with the thread that started it (embedded/child.py), so these live as long as the servers do.
        self.threads = ThreadPoolExecutor(8)
        self._copy = place.data / "valkey.copy"

    def start(self) -> None:
        """Both servers, and the environment in which this process and all others find them."""
        self.valkey_child.start(self._write)
        if template.present():
            template.copy(self.postgres)
        else:
            self.postgres.prepare()
        self.postgres_child = self.postgres.child()
        self.postgres_child.argv += DURABLE + VACUUMED
        self.postgres_child.start(self._write)
        for child in (self.valkey_child, self.postgres_child):
            child.wait_until_ready(seconds=START_SECONDS)
        self.variables = {
            **environment.generate_secrets(),
            "GATEHOUSE_HOME": str(self.home),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.valkey.url(),
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
        }
        os.environ.update(self.variables)
        for name in ("BROKER_URL", "CHANNELS_URL"):
            os.environ.pop(name, None)
        (self.home / "static").mkdir(exist_ok=True)

    def open_workers(self, count: int, *, naive: dict[str, str] | None = None) -> None:
        """`naive`: variables of the naive gateway, which then stands in each worker's place."""
        for number in range(count):
            log = self.home / f"worker-{number}.log"
            gateway = Gateway(
                name=f"worker-{number}",
                log=log,
                database_url=self.database_url,
                variables={**self.variables, **(naive or {})},
                forks=self.forks,
            )
            if naive is not None:
                descriptor = str(gateway.listening.fileno())
                gateway.child.argv = [sys.executable, "-m", "tests.torture.naive", "--fd", descriptor]
            gateway.child.start(gateway._write)
            self.workers.append(gateway)
        for gateway in self.workers:
            gateway.child.wait_until_ready(seconds=START_SECONDS)

    def close(self) -> None:
        for worker in self.workers:
            worker.child.stop(at_once=True)
            worker.listening.close()
        self.forks.close()
        for child in (self.postgres_child, self.valkey_child):
            if child is not None:
                servers.end(child)
        self.threads.shutdown()

    # --- what breaks ----------------------------------------------------------------------------
    def kill_worker(self, number: int) -> None:
        """SIGKILL, and a new one on the same socket; one that ends because a server is away is started again."""
        worker = self.workers[number]
        worker.kill()
        _persist(worker.child, worker._write)

    def flush(self) -> None:
        import redis

        with redis.Redis.from_url(self.valkey.url()) as client:
            client.flushall()

    def copy_valkey(self) -> None:
        """Keeps what Valkey has on disk by now."""
        shutil.rmtree(self._copy, ignore_errors=True)
        subprocess.run(["/bin/cp", "-a", str(self.valkey.data), str(self._copy)], check=True)

    def restart_valkey_with_lost_writes(self) -> None:
        """SIGKILL; the folder becomes what it was at the last copy."""
        self.valkey_child.stop(at_once=True)
        shutil.rmtree(self.valkey.data)
        self._copy.rename(self.valkey.data)
        self.valkey_child.start(self._write)
        self.valkey_child.wait_until_ready(seconds=START_SECONDS)

    def stop_postgres(self, *, at_once: bool) -> None:
        assert self.postgres_child is not None
        if at_once:  # its children notice by themselves that the postmaster is gone
            os.kill(self.postgres_child.pid, signal.SIGKILL)
        self.postgres_child.stop()

    def start_postgres(self) -> None:
        """Tried again while backends of a killed server still hold its shared memory."""
        assert self.postgres_child is not None
        _persist(self.postgres_child, self._write, before=self.postgres.prepare)

    def prove_counters(self) -> tuple[int, str]:
        """Exit code and words of the gateway's own proof."""
        return children.run(self.forks, "-m", "manage", "prove_counters", variables=os.environ, seconds=120)

    def _write(self, name: str, line: str) -> None:
        with contextlib.suppress(OSError), self.log.open("a") as file:
            file.write(f"{name} {line}\n")


def _persist(child: Child, write: Write, *, before: Callable[[], object] = lambda: None) -> None:
    """Starts it until it stays."""
    until = time.monotonic() + START_SECONDS
    while True:
        before()
        child.start(write)
        try:
            child.wait_until_ready(seconds=START_SECONDS)
        except StartError:
            child.stop()
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def set_up_django() -> None:
    import django
    from django.apps import apps
    from django.core.management import call_command

    if apps.ready:  # forked, with settings of somewhere else
        forks.read_settings()
    django.setup()
    if not template.present():
        call_command("migrate", verbosity=0, interactive=False)
