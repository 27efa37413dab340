"""The embedded servers by themselves: no Django, no supervisor."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from gateway_project.embedded import places
from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.places import Place
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.valkey import Valkey
from tests import servers

PASSWORD = "a password, with / and @"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-servers-"))
    folder.chmod(0o711)
    yield places.choose(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def postgres(place: Place) -> Postgres:
    """Its files; each test starts the server itself."""
    server = Postgres(place, password=PASSWORD, fast=True)
    assert server.prepare() is True
    return server


@pytest.fixture
def valkey(place: Place) -> Valkey:
    return Valkey(place)


@pytest.fixture
def run() -> Iterator["Run"]:
    run = Run()
    yield run
    for child in run.children:
        servers.end(child)


class Run:
    """Starts children, waits for them, and ends them after the test."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.lines: list[str] = []

    def __call__(self, server: Postgres | Valkey) -> Child:
        if isinstance(server, Postgres):
            server.prepare()
        child = server.child()
        self.children.append(child)
        child.start(lambda name, line: self.lines.append(f"{name}: {line}"))
        child.wait_until_ready(seconds=20)
        return child


def test_postgresql_keeps_its_data_between_runs(postgres: Postgres, run: Run) -> None:
    first = run(postgres)
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('still here')")
    first.stop()
    assert postgres.prepare() is False
    run(postgres)
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT word FROM kept").fetchall() == [("still here",)]
        connection.execute("DROP TABLE kept")


def test_postgresql_comes_back_after_kill_9(postgres: Postgres, run: Run) -> None:
    run(postgres).stop(at_once=True)
    assert (postgres.data / "postmaster.pid").exists()
    run(postgres)
    assert answers(postgres)


def test_of_postgresql_no_shared_memory_stays_when_tests_end_it(postgres: Postgres, run: Run) -> None:
    child = run(postgres)
    pid, mapped = child.pid, set(re.findall(r"/\S+/PostgreSQL\.\S+", Path(f"/proc/{child.pid}/maps").read_text()))
    assert mapped
    assert _segments_of(pid) == 1
    servers.end(child)
    assert _segments_of(pid) == 0
    assert not any(Path(file).exists() for file in mapped)


def _segments_of(pid: int) -> int:
    """Of System V's shared memory, how many it has made (proc(5))."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    creator = lines[0].split().index("cpid")
    return sum(int(line.split()[creator]) == pid for line in lines[1:])


def test_a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle(postgres: Postgres, run: Run) -> None:
    run(postgres).stop(at_once=True)
    pid_file = postgres.data / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]))
    run(postgres)
    assert answers(postgres)


def test_postgresql_asks_for_the_password(postgres: Postgres, run: Run) -> None:
    run(postgres)
    stranger = Postgres(postgres.place, password="guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(stranger.url())


def test_postgresql_stores_passwords_as_scram_and_listens_on_no_port(postgres: Postgres, run: Run) -> None:
    run(postgres)
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        stored = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'gatehouse'").fetchone()
        methods = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
    assert stored is not None
    assert stored[0].startswith("SCRAM-SHA-256$1:")
    assert methods == [("scram-sha-256",)]


def test_text_is_unicode_and_sorts_the_same_on_every_machine(postgres: Postgres, run: Run) -> None:
    run(postgres)
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT lower('ÄÖÜ'), length('日本語')").fetchone() == ("äöü", 3)
        assert connection.execute("SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'gatehouse'").fetchone() == (
            "b",
            "C.UTF-8",
        )


def test_neither_statements_nor_values_reach_the_log(postgres: Postgres, run: Run) -> None:
    child = run(postgres)
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE prompts (text text UNIQUE)")
        connection.execute("INSERT INTO prompts VALUES ('canary-in-the-log')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO prompts VALUES ('canary-in-the-log')")
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("canary-in-the-log")
    child.stop()
    assert "canary" not in "\n".join(run.lines)


def test_the_password_stays_out_of_the_process_list_and_out_of_the_data_folder(postgres: Postgres) -> None:
    assert not any("password" in path.name for path in postgres.place.data.iterdir())
    assert PASSWORD not in " ".join(postgres.child().argv)


def test_a_half_made_cluster_is_made_anew(place: Place, run: Run) -> None:
    other = Postgres(places.Place(place.account, place.make("other"), place.sockets), password="x", fast=True)
    (place.data / "other" / "postgres.new").mkdir()
    assert other.prepare() is True
    run(other)
    assert answers(other)


def test_files_of_another_version_are_left_alone(place: Place) -> None:
    old = Postgres(places.Place(place.account, place.make("old"), place.sockets), password="x")
    old.data.mkdir()
    (old.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(StartError, match="written by PostgreSQL 15"):
        old.prepare()


def test_a_folder_with_something_else_in_it_is_left_alone(place: Place) -> None:
    strange = Postgres(places.Place(place.account, place.make("strange"), place.sockets), password="x")
    strange.data.mkdir()
    (strange.data / "letter.txt").write_text("dear")
    with pytest.raises(StartError, match="holds no PostgreSQL data"):
        strange.prepare()


def test_a_server_that_cannot_start_shows_its_last_lines(place: Place, postgres: Postgres) -> None:
    broken = place.data / "broken"
    shutil.copytree(postgres.data, broken / "postgres")
    for path in (broken, *broken.rglob("*")):
        shutil.chown(path, place.account.uid, place.account.gid)
    (broken / "postgres").chmod(0o700)
    with (broken / "postgres" / "postgresql.conf").open("a") as file:
        file.write("work_mem = 'enormous'\n")
    with pytest.raises(StartError, match=r"postgres ended while starting[\s\S]*work_mem"):
        Run()(Postgres(places.Place(place.account, broken, place.sockets), password=PASSWORD))


def test_valkey_keeps_its_data_between_runs_and_over_kill_9(valkey: Valkey, run: Run) -> None:
    first = run(valkey)
    with redis.Redis.from_url(valkey.url()) as client:
        client.set("kept", "a")
    first.stop()
    second = run(valkey)
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.get("kept") == b"a"
        client.set("kept", "b")
    second.stop(at_once=True)
    run(valkey)
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.get("kept") == b"b"


def test_valkey_evicts_nothing_writes_everything_and_listens_on_no_port(valkey: Valkey, run: Run) -> None:
    run(valkey)
    with redis.Redis.from_url(valkey.url()) as client:
        wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "port": "0"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_a_socket_without_a_server_is_not_taken_for_one(valkey: Valkey) -> None:
    valkey.socket.unlink(missing_ok=True)
    assert not valkey.child().ready(0)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(valkey.socket))
    assert not valkey.child().ready(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_servers_end_when_their_parent_is_killed(place: Place) -> None:
    program = (
        "import sys, time; from pathlib import Path; from gateway_project.embedded import places; "
        "from gateway_project.embedded.valkey import Valkey; "
        "child = Valkey(places.choose(Path(sys.argv[1]))).child(); child.start(print); "
        "child.wait_until_ready(seconds=20); print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(place.data.parent)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(next(line for line in parent.stdout if line.strip().isdigit()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until_gone(pid)


def answers(server: Postgres) -> bool:
    with psycopg.connect(server.url()) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def wait_until_gone(pid: int, *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)
