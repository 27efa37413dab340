"""A run that is spread says what a run in one process says, whichever of its processes ran what."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import pytest

from tests import spread
from tests.house import eventually

ROOT = Path(__file__).resolve().parent.parent
WHERE = """
import os, pytest
from pathlib import Path
TOLD = Path(__file__).with_name("told")
def tell(what):
    with TOLD.open("a") as file:
        file.write(f"{os.getpid()} {what}\\n")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of tests; `conftest.tell` writes down who did what."""
    (tmp_path / "conftest.py").write_text(WHERE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"test_{name}.py").write_text(f"import os, pytest, signal\nfrom conftest import tell\n{text}\n")


def command(folder: Path, *options: str, processes: int = 2) -> list[str]:
    """A run of these tests, without this project's own servers and settings."""
    plugins = ["-p", "tests.spread", "-p", "no:cacheprovider"]
    spreads = f"--spread={processes}"
    return [sys.executable, "-m", "pytest", "-q", *plugins, spreads, "-c", str(folder / "pytest.ini"), *options, str(folder)]


def ran(folder: Path, *options: str, processes: int = 2) -> tuple[int, str]:
    """Its exit code and output."""
    told = command(folder, *options, processes=processes)
    found = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=False, env=bare())
    return found.returncode, found.stdout + found.stderr


def bare() -> dict[str, str]:
    """Without options, and without plugins that only have been installed: two thirds of a run's time is their loading."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def told(folder: Path) -> list[tuple[str, str]]:
    """(process, what) in order."""
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in (folder / "told").read_text().splitlines()]


def test_all_pass_and_each_file_stays_in_one_process(folder: Path) -> None:
    for name in "abcd":
        write(folder, name, f"@pytest.mark.parametrize('n', range(3))\ndef test_it(n): tell('{name}')")
    code, output = ran(folder)
    assert code == 0, output
    assert "12 passed" in output
    by_file: dict[str, set[str]] = {}
    for process, name in told(folder):
        by_file.setdefault(name, set()).add(process)
    assert sorted(by_file) == list("abcd")
    assert all(len(processes) == 1 for processes in by_file.values())
    assert str(os.getpid()) not in set.union(*by_file.values())


def test_what_fails_is_told_with_its_output(folder: Path) -> None:
    write(folder, "a", "def test_bad():\n    print('last words')\n    assert 1 == 2, 'not so'")
    write(folder, "b", "def test_good(): pass\n@pytest.mark.skip(reason='not today')\ndef test_left(): pass")
    write(folder, "c", "@pytest.fixture\ndef broken(): raise OSError('no ground')\ndef test_on_it(broken): pass")
    code, output = ran(folder, "-rfs")
    assert code == 1, output
    assert re.search("1 failed, 1 passed, 1 skipped, 1 error", output), output
    for words in ("not so", "last words", "no ground", "not today", "test_a.py::test_bad"):
        assert words in output


def test_what_one_process_writes_does_not_stand_with_anothers_failure(folder: Path) -> None:
    for name in "abcd":
        write(folder, name, f"def test_it():\n    os.system('echo from{name}')\n    print('and{name}')\n    assert False")
    code, output = ran(folder, processes=4)
    assert code == 1
    for name in "abcd":
        assert output.count(f"\nfrom{name}\n") == output.count(f"\nand{name}\n") == 1, output


def test_fixtures_of_a_run_are_made_once_in_each_process_and_taken_down(folder: Path) -> None:
    with (folder / "conftest.py").open("a") as file:
        file.write("@pytest.fixture(scope='session')\ndef whole():\n    tell('made')\n    yield\n    tell('gone')\n")
    for name in "abc":
        write(folder, name, "def test_one(whole): tell('test')\ndef test_two(whole): tell('test')")
    code, output = ran(folder)
    assert code == 0, output
    for process in {process for process, _ in told(folder)}:
        did = [what for who, what in told(folder) if who == process]
        assert (did[0], did[-1]) == ("made", "gone")
        assert did.count("made") == did.count("gone") == 1


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "raise KeyboardInterrupt"])
def test_a_process_that_goes_before_it_is_told_to_fails_the_run(folder: Path, end: str) -> None:
    write(folder, "a", f"def test_one(): tell('one')\ndef test_last(): {end}\ndef test_never(): tell('never')")
    write(folder, "b", "def test_good(): tell('good')")
    code, output = ran(folder)
    assert code != 0, output
    assert "A process of the tests ended with" in output
    assert "never" not in {what for _, what in told(folder)}


def test_it_stops_where_a_run_in_one_process_would(folder: Path) -> None:
    for name in "abc":
        write(folder, name, "def test_bad(): tell('bad'); assert False\ndef test_later(): tell('later')")
    code, output = ran(folder, "-x", processes=1)
    assert code == 1, output
    assert "1 failed" in output
    assert [what for _, what in told(folder)] == ["bad"]


def test_who_interrupts_it_leaves_no_process_behind(folder: Path) -> None:
    write(folder, "a", "import time\ndef test_long(): tell('begun'); time.sleep(200)")
    write(
        folder,
        "b",
        "import time\ndef test_deaf():\n    signal.signal(signal.SIGINT, signal.SIG_DFL)\n    tell('begun'); time.sleep(200)",
    )
    # Where this run is a shell's job in the background, its processes inherit that Ctrl-C is nothing to them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (folder / "output").open("w") as output:
        run = subprocess.Popen(command(folder), cwd=ROOT, stdout=output, stderr=output, env=bare())
    signal.signal(signal.SIGINT, before)
    begun = eventually(lambda: (folder / "told").exists() and len(told(folder)) == 2, seconds=60)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) != 0
    assert begun, (folder / "output").read_text()
    assert not [process for process, _ in told(folder) if Path("/proc", process).exists()]


def test_a_file_that_cannot_be_read_stops_the_run(folder: Path) -> None:
    write(folder, "a", "import nothing_of_this_name")
    write(folder, "b", "def test_good(): tell('good')")
    code, output = ran(folder)
    assert code == 2, output
    assert not (folder / "told").exists()


def test_listing_tests_runs_none(folder: Path) -> None:
    write(folder, "a", "def test_good(): tell('good')")
    code, output = ran(folder, "--collect-only")
    assert (code, (folder / "told").exists()) == (0, False)
    assert "test_good" in output


def test_files_of_several_folders_follow_one_another(folder: Path) -> None:
    """Each with what tests of its folder share."""
    shared = "import pytest\n@pytest.fixture(scope='package', autouse=True)\ndef shared(): yield\n"
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
        (folder / name / "conftest.py").write_text(shared)
        for number in range(2):
            (folder / name / f"test_{name}{number}.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    code, output = ran(folder, processes=1)
    assert code == 0, output
    assert "8 passed" in output


def test_what_takes_long_begins_first() -> None:
    names = ["billing/test_books.py", "orgs/test_objects.py", "proxy/test_sse.py", "torture/test_short.py"]
    items = [SimpleNamespace(path=ROOT / "tests" / name) for _ in range(2) for name in names]
    found = spread.longest_first(cast(Any, items))
    assert [str(items[0].path.relative_to(ROOT / "tests")) for items in found] == [names[3], names[1], names[0], names[2]]
    assert all(len(items) == 2 for items in found)


def test_files_that_share_a_browser_count_as_one() -> None:
    paths = [ROOT / "tests" / "billing" / "test_books.py", *spread.TOGETHER]
    items = [SimpleNamespace(path=path) for path in paths for _ in range(2)]
    assert spread.longest_first(cast(Any, items[::-1])) == [items[:1:-1], items[1::-1]]


def test_files_that_take_long_are_there() -> None:
    assert [name for name in spread.LONG if not (ROOT / "tests" / name).exists()] == []
    assert len(set(spread.LONG)) == len(spread.LONG)
    assert [path for path in spread.TOGETHER if not path.exists()] == []


def test_every_process_uses_what_is_its_own() -> None:
    """Whatever was made of the settings before it was forked."""
    from channels.layers import channel_layers  # type: ignore[import-untyped]
    from django.conf import settings
    from django.core.cache import caches
    from django.db import connections

    from gateway_project.celery import app
    from gateway_project.lib import redis

    address = os.environ["REDIS_URL"]
    assert vars(caches["default"])["_servers"] == [address] == [settings.REDIS_URL]
    assert channel_layers.configs["default"]["CONFIG"]["hosts"] == [address]
    assert app.conf.broker_url == settings.CELERY_BROKER_URL
    assert address.removeprefix("unix://").split("?")[0] in app.conf.broker_url
    assert redis.client().ping()
    assert connections["default"].settings_dict["HOST"] in unquote(os.environ["DATABASE_URL"])
    assert str(settings.SPOOL_FOLDER).startswith(os.environ["GATEHOUSE_HOME"])
