"""What the environment makes of the settings; each case is a process of its own, as in an installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from gateway_project import environment
from tests import children
from tests.forks import Forks

ROOT = Path(__file__).resolve().parent.parent.parent
SECRETS = {"SECRET_KEY": "s", "GATEHOUSE_PEPPER": "p", "GATEHOUSE_KEYS": "k1:AAAA"}
READ = """
import json, sys
from gateway_project import settings
print(json.dumps({name: repr(getattr(settings, name)) for name in sys.argv[1:]}))
"""


def environment_of(folder: Path, **variables: str) -> dict[str, str]:
    """One that holds nothing of this test run."""
    return {"PATH": os.defpath, "GATEHOUSE_HOME": str(folder), "PYTHONPATH": str(ROOT), **variables}


def run(words: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = environment_of(folder, **variables)
    return subprocess.run([sys.executable, *words], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)


class Read(Protocol):
    def __call__(self, names: str, folder: Path, **variables: str) -> dict[str, Any]: ...


@pytest.fixture
def read(forks: Forks) -> Read:
    """Settings as text that Python would write."""

    def read(names: str, folder: Path, **variables: str) -> dict[str, Any]:
        words = ("-m", "tests.gateway_project.settings_told", *names.split())
        code, said = children.run(forks, *words, variables=environment_of(folder, **SECRETS, **variables), seconds=60)
        assert code == 0, said
        found: dict[str, Any] = json.loads(said)
        return found

    return read


def test_every_missing_secret_is_named_with_a_way_out(tmp_path: Path) -> None:
    def without(name: str) -> str:
        given = {other: value for other, value in SECRETS.items() if other != name}
        return run(["-c", READ], tmp_path, **given).stderr

    with ThreadPoolExecutor(2) as pool:
        for name, said in zip(SECRETS, pool.map(without, SECRETS), strict=True):
            assert f"set {name}." in said
            assert "make run" in said
            assert str(tmp_path) in said


def test_an_empty_secret_is_no_secret(tmp_path: Path) -> None:
    done = run(["-c", READ], tmp_path, **{**SECRETS, "SECRET_KEY": ""})
    assert done.returncode != 0
    assert "set SECRET_KEY." in done.stderr


def test_secrets_of_the_state_folder_are_enough(tmp_path: Path) -> None:
    environment.write_file(tmp_path, {**SECRETS, "PORT": "8123", "REDIS_URL": "unix:///x/valkey.sock?db=0"})
    done = run(["-c", READ, "PORT", "REDIS_URL", "SECRET_KEY"], tmp_path, SECRET_KEY="from the process")
    assert json.loads(done.stdout) == {
        "PORT": "8123",
        "REDIS_URL": "'unix:///x/valkey.sock?db=0'",
        "SECRET_KEY": "'from the process'",
    }


@pytest.mark.parametrize("command", ["up", "check"])
def test_some_commands_work_on_a_fresh_clone_without_a_secret(tmp_path: Path, command: str) -> None:
    done = run(["-c", f"import sys; sys.argv = ['./manage.py', '{command}']; import gateway_project.settings"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_our_own_program_is_excused_from_secrets(tmp_path: Path) -> None:
    done = run(["-c", "import sys; sys.argv = ['celery', 'check']; import gateway_project.settings"], tmp_path)
    assert "set SECRET_KEY, GATEHOUSE_PEPPER, GATEHOUSE_KEYS." in done.stderr


@pytest.mark.parametrize("words", [["manage.py", "migrate"], ["manage.py", "demo", "--json"]])
def test_a_command_that_needs_secrets_says_so(tmp_path: Path, words: list[str]) -> None:
    done = run(words, tmp_path)
    assert done.returncode != 0
    assert "set SECRET_KEY, GATEHOUSE_PEPPER, GATEHOUSE_KEYS." in done.stderr
    assert done.stdout == ""


NAMES = (
    "SECURE SESSION_COOKIE_SECURE CSRF_COOKIE_SECURE SECURE_SSL_REDIRECT SECURE_HSTS_SECONDS SECURE_PROXY_SSL_HEADER "
    "CSRF_TRUSTED_ORIGINS PUBLIC_URL"
)


def test_behind_https_cookies_never_travel_in_the_clear(read: Read, tmp_path: Path) -> None:
    found = read(NAMES, tmp_path, PUBLIC_URL="https://gate.example.com/", TRUST_PROXY="yes")
    assert {found[name] for name in NAMES.split()[:4]} == {"True"}
    assert found["SECURE_HSTS_SECONDS"] == "31536000"
    assert found["SECURE_PROXY_SSL_HEADER"] == "('HTTP_X_FORWARDED_PROTO', 'https')"
    assert found["PUBLIC_URL"] == "'https://gate.example.com'"
    assert found["CSRF_TRUSTED_ORIGINS"] == "['https://gate.example.com']"


def test_on_this_machine_http_works_and_no_proxy_is_believed(read: Read, tmp_path: Path) -> None:
    found = read(NAMES, tmp_path, PORT="8123")
    assert {found[name] for name in NAMES.split()[:4]} == {"False"}
    assert (found["SECURE_HSTS_SECONDS"], found["SECURE_PROXY_SSL_HEADER"]) == ("0", "None")
    assert found["PUBLIC_URL"] == "'http://127.0.0.1:8123'"


def test_lists_are_split_and_empty_entries_dropped(read: Read, tmp_path: Path) -> None:
    found = read("ALLOWED_HOSTS CSRF_TRUSTED_ORIGINS", tmp_path, ALLOWED_HOSTS="a.example,,b.example,", CSRF_TRUSTED_ORIGINS="")
    assert found == {"ALLOWED_HOSTS": "['a.example', 'b.example']", "CSRF_TRUSTED_ORIGINS": "[]"}


@pytest.mark.parametrize(
    ("redis_url", "broker"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://u:p@cache.example:6380/3", "rediss://u:p@cache.example:6380/3"),
        ("unix:///run/x/valkey.sock?db=0", "redis+socket:///run/x/valkey.sock?virtual_host=1"),
    ],
)
def test_background_work_finds_the_same_server(read: Read, tmp_path: Path, redis_url: str, broker: str) -> None:
    found = read("CELERY_BROKER_URL CHANNELS_URL", tmp_path, REDIS_URL=redis_url)
    assert found == {"CELERY_BROKER_URL": repr(broker), "CHANNELS_URL": repr(redis_url)}


def test_a_broker_of_its_own_can_be_named(read: Read, tmp_path: Path) -> None:
    found = read("CELERY_BROKER_URL REDIS_URL", tmp_path, REDIS_URL="redis://a/0", BROKER_URL="redis://b/7")
    assert found == {"CELERY_BROKER_URL": "'redis://b/7'", "REDIS_URL": "'redis://a/0'"}


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("no", False), ("", False)])
def test_switches_are_read_as_people_write_them(read: Read, tmp_path: Path, text: str, value: bool) -> None:
    assert read("DEBUG", tmp_path, DEBUG=text) == {"DEBUG": str(value)}


@pytest.mark.parametrize("text", ["0", "-3"])
def test_a_time_to_end_in_which_nobody_could_be_told_is_refused(read: Read, tmp_path: Path, text: str) -> None:
    assert "SHUTDOWN_SECONDS must be at least 1" in run(["-c", READ], tmp_path, **SECRETS, SHUTDOWN_SECONDS=text).stderr
    assert read("SHUTDOWN_SECONDS", tmp_path, SHUTDOWN_SECONDS="1") == {"SHUTDOWN_SECONDS": "1"}


def test_options_of_the_database_address_are_kept_beside_ours(read: Read, tmp_path: Path) -> None:
    found = read("DATABASES", tmp_path, DATABASE_URL="postgresql://u:p@db.example:5433/gate?sslmode=require")
    for part in ("'sslmode': 'require'", "statement_timeout=30000", "'HOST': 'db.example'", "'PORT': 5433", "'NAME': 'gate'"):
        assert part in found["DATABASES"]
