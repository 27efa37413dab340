import contextlib
import os
import socket
from pathlib import Path

import pytest

from gateway_project import environment
from gateway_project.embedded import listening, options, places
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.options import Options
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.valkey import Valkey


@pytest.fixture
def place(tmp_path: Path) -> places.Place:
    us = places.Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    return places.Place(account=us, data=tmp_path, sockets=tmp_path)


def test_the_defaults() -> None:
    chosen = Options.read({})
    assert (chosen.port, chosen.workers, chosen.url) == (8000, 1, "http://127.0.0.1:8000")
    assert chosen.shutdown_seconds == 5
    assert (chosen.embed_postgres, chosen.embed_valkey) == (True, True)


@pytest.mark.parametrize(
    ("given", "embedded"),
    [
        ({"DATABASE_URL": "postgresql://db/x"}, (False, True)),
        ({"REDIS_URL": "redis://cache"}, (True, False)),
        ({"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://cache"}, (False, False)),
        ({"DATABASE_URL": "", "REDIS_URL": ""}, (True, True)),
    ],
)
def test_a_server_whose_address_is_given_is_not_embedded(given: dict[str, str], embedded: tuple[bool, bool]) -> None:
    chosen = Options.read(given)
    assert (chosen.embed_postgres, chosen.embed_valkey) == embedded


@pytest.mark.parametrize("text", ["0", "65536", "-1", "8000.5", "http", "８０００", "1e3", " "])
def test_a_port_that_is_none_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(StartError, match=r"^PORT has to be a whole number from 1 to 65535, not .*\.$"):
        Options.read({"PORT": text})


@pytest.mark.parametrize("text", ["0", "65", "many"])
def test_a_number_of_workers_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StartError, match="WEB_WORKERS"):
        Options.read({"WEB_WORKERS": text})


def test_how_long_calls_may_go_on_is_read_from_the_state_folder_too(tmp_path: Path) -> None:
    environment.write_file(tmp_path, {"SHUTDOWN_SECONDS": "60"})
    assert Options.read({"GATEHOUSE_HOME": str(tmp_path)}).shutdown_seconds == 60
    assert Options.read({"GATEHOUSE_HOME": str(tmp_path), "SHUTDOWN_SECONDS": "2"}).shutdown_seconds == 2
    with pytest.raises(StartError, match="SHUTDOWN_SECONDS has to be a whole number from 1 to 3600"):
        Options.read({"SHUTDOWN_SECONDS": "0"})


def test_secrets_are_generated_once_and_then_kept(tmp_path: Path) -> None:
    chosen = Options.read({"GATEHOUSE_HOME": str(tmp_path)})
    options.write_environment(chosen, postgres=None, valkey=None)
    first = environment.read_file(tmp_path)
    options.write_environment(chosen, postgres=None, valkey=None)
    assert environment.read_file(tmp_path) == first


def test_secrets_of_the_process_environment_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "from-a-vault")
    monkeypatch.delenv("GATEHOUSE_PEPPER")
    options.write_environment(Options.read({"GATEHOUSE_HOME": str(tmp_path)}), postgres=None, valkey=None)
    written = environment.read_file(tmp_path)
    assert "SECRET_KEY" not in written
    assert "GATEHOUSE_PEPPER" in written


def test_other_commands_find_the_embedded_servers(tmp_path: Path, place: places.Place) -> None:
    postgres, valkey = Postgres(place, password="secret"), Valkey(place)
    options.write_environment(Options.read({"GATEHOUSE_HOME": str(tmp_path), "PORT": "8123"}), postgres=postgres, valkey=valkey)
    written = environment.read_file(tmp_path)
    assert written["DATABASE_URL"] == postgres.url()
    assert written["REDIS_URL"] == valkey.url()
    assert written["PORT"] == "8123"
    assert written["POSTGRES_PASSWORD"] == "secret"


def test_addresses_of_servers_that_are_no_longer_embedded_are_dropped_but_the_password_stays(tmp_path: Path) -> None:
    environment.write_file(tmp_path, {"DATABASE_URL": "old", "REDIS_URL": "old", "POSTGRES_PASSWORD": "kept", "OWN": "line"})
    options.write_environment(Options.read({"GATEHOUSE_HOME": str(tmp_path)}), postgres=None, valkey=None)
    written = environment.read_file(tmp_path)
    assert {"DATABASE_URL", "REDIS_URL"} & set(written) == set()
    assert (written["POSTGRES_PASSWORD"], written["OWN"]) == ("kept", "line")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_a_taken_port_is_named_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"^Port {port} is taken by another program: .*PORT={port + 1}\.$"):
            listening.open_sockets(port, count=1)


@pytest.mark.parametrize("count", [1, 2])
def test_several_workers_do_not_share_a_port_with_another_gatehouse(count: int) -> None:
    port = free_port()
    sockets = listening.open_sockets(port, count=2)
    try:
        with pytest.raises(StartError, match="is taken"):
            listening.open_sockets(port, count=count)
    finally:
        for one in sockets:
            one.close()


def test_connections_are_spread_over_the_workers() -> None:
    sockets = listening.open_sockets(free_port(), count=2)
    callers = [socket.create_connection(sockets[0].getsockname()) for _ in range(60)]
    accepted = []
    for one in sockets:
        one.setblocking(False)
        accepted.append(accept_all(one))
    for caller in callers:
        caller.close()
    for one in sockets:
        one.close()
    assert sum(accepted) == 60
    assert min(accepted) >= 10


def accept_all(listening_socket: socket.socket) -> int:
    """How many connections wait at the socket; they are closed."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening_socket.accept()[0].close()
            count += 1
    return count
