"""`manage.py up`: the whole Gatehouse on one machine, as one tree of processes with one log.

This process never imports Django: it starts the servers and supervises. While PostgreSQL creates its files, `prepare` and the
web process already import the application; they go on when their gate opens. Order of stopping: web, Celery, servers.
"""

import http.client
import json
import os
import secrets
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

from gateway_project import environment
from gateway_project.embedded import listening, options, places, summary
from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.lock import StateLock
from gateway_project.embedded.options import Options
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.terminal import Terminal
from gateway_project.embedded.tree import Stopped, Tree
from gateway_project.embedded.valkey import Valkey

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER_SECONDS, PREPARE_SECONDS, WEB_SECONDS = 30.0, 600.0, 60.0
CLOSING_SECONDS = 10.0  # for a web process without calls, where PostgreSQL hangs: what it has recorded goes to the spool
CELERY = ("-m", "celery", "--quiet", "-A", "gateway_project", "worker", "-B", "--concurrency=2", "--loglevel=warning")
CELERY_ALONE = ("--without-gossip", "--without-mingle")  # there is no other worker to talk to
CELERY_WARNINGS = "ignore:You're running the worker with superuser privileges"  # as root everything here is root's


class Up:
    """One run. Every step raises StartError with the sentence to print; `run` undoes whatever was reached."""

    def __init__(self, chosen: Options, terminal: Terminal) -> None:
        self.options, self.terminal = chosen, terminal
        self.lock = StateLock(chosen.home, url=chosen.url)
        self.tree = Tree(terminal, changed=self.lock.record)
        self.metrics = chosen.home / "metrics"
        self.sockets: list[socket.socket] = []  # held to the end: a web process that is replaced finds its socket open
        self.began = time.monotonic()

    def run(self) -> int:
        """Until somebody stops it; the exit code."""
        failure = ""
        self.tree.listen_for_signals()
        try:
            self._start()
            self.tree.watch()
        except Stopped:
            self.terminal.say(f"Gatehouse stops. Calls under way have {self.options.shutdown_seconds} s to end; Ctrl-C: at once.")
        except StartError as error:
            failure = str(error)
        except OSError as error:
            failure = f"Gatehouse cannot go on: {error}"
        finally:
            for one in self.sockets:
                one.close()  # or who connects now would wait for nothing
            self.tree.stop()
            self.lock.release()
        self.terminal.say(failure or "Gatehouse has stopped.")
        return 1 if failure else 0

    def _start(self) -> None:
        places.make_home(self.options.home)
        self.lock.acquire()
        shutil.rmtree(self.metrics, ignore_errors=True)  # figures of processes that are gone
        self.metrics.mkdir()
        self.sockets = listening.open_sockets(self.options.port, count=self.options.workers)
        self.terminal.say(f"Gatehouse starts; everything it keeps lies in {self.options.home}")
        postgres, valkey = self._servers()
        options.write_environment(self.options, postgres=postgres, valkey=valkey)
        reader, writer = os.pipe()
        prepare = self._python(
            "prepare", "-m", "gateway_project.embedded.prepare", "--result-fd", str(writer), descriptor=writer, once=True
        )
        webs = [self._web(index, one.fileno()) for index, one in enumerate(self.sockets, start=1)]
        celery = self._python("celery", *CELERY, *CELERY_ALONE)
        celery.variables["PYTHONWARNINGS"] = CELERY_WARNINGS
        self.tree.start(prepare, *webs[:1])  # they import the application meanwhile
        os.close(writer)
        self._start_servers(postgres, valkey)
        with self.terminal.step("Static files, database schema, demo organisation"):
            prepare.open_gate()
            prepare.wait_until_done(seconds=PREPARE_SECONDS)
        with self.terminal.step("Web server, background work"):
            self.tree.start(celery, *webs[1:])
            for web in webs:
                web.open_gate()
                web.wait_until_ready(seconds=WEB_SECONDS)
        with os.fdopen(reader) as file:
            self._announce(json.load(file))

    def _servers(self) -> tuple[Postgres | None, Valkey | None]:
        if not (self.options.embed_postgres or self.options.embed_valkey):
            return None, None
        place = places.choose(self.options.home)
        password = environment.read_file(self.options.home).get(options.PASSWORD) or secrets.token_urlsafe(24)
        postgres = Postgres(place, password=password) if self.options.embed_postgres else None
        valkey = Valkey(place) if self.options.embed_valkey else None
        for note in place.notes:
            self.terminal.say(f"  {note}")
        return postgres, valkey

    def _start_servers(self, postgres: Postgres | None, valkey: Valkey | None) -> None:
        servers = [valkey.child()] if valkey else []
        self.tree.start(*servers)
        with self.terminal.step("PostgreSQL and Valkey"):
            if postgres is not None:
                postgres.prepare()
                servers.append(postgres.child())
                self.tree.start(servers[-1])
            for server in servers:
                server.wait_until_ready(seconds=SERVER_SECONDS)

    def _python(self, name: str, *arguments: str, descriptor: int | None = None, once: bool = False) -> Child:
        return Child(
            name,
            argv=[sys.executable, *arguments],
            ready=lambda _: self._answers(),
            folder=ROOT,
            variables={
                **os.environ,
                environment.HOME_VARIABLE: str(self.options.home),
                "PORT": str(self.options.port),
                "PYTHONUNBUFFERED": "1",
            },
            descriptors=[] if descriptor is None else [descriptor],
            gated=descriptor is not None,
            once=once,
        )

    def _web(self, index: int, descriptor: int) -> Child:
        name = "web" if self.options.workers == 1 else f"web-{index}"
        web = self._python(name, "-m", "gateway_project.embedded.web", "--gated", "--fd", str(descriptor), descriptor=descriptor)
        web.variables["SHUTDOWN_SECONDS"] = str(self.options.shutdown_seconds)
        web.stop_seconds = self.options.shutdown_seconds + CLOSING_SECONDS
        if self.options.workers > 1:
            web.variables["PROMETHEUS_MULTIPROC_DIR"] = str(self.metrics)
        return web

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(listening.ADDRESS, self.options.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _announce(self, demo: dict[str, Any]) -> None:
        elsewhere = self.options.home != environment.home({})
        for line in summary.lines(demo, url=self.options.url, home=str(self.options.home) if elsewhere else ""):
            self.terminal.say(line)
        self.terminal.say(f"Ready after {time.monotonic() - self.began:.1f} s. Ctrl-C stops everything.")
        if demo:
            self.tree.start(self._python("history", "manage.py", "demo", "--history", once=True))


def main() -> None:
    terminal = Terminal()
    try:
        up = Up(Options.read(os.environ), terminal)
    except StartError as error:
        sys.exit(str(error))
    sys.exit(up.run())


if __name__ == "__main__":
    main()
