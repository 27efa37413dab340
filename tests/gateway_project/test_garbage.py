"""What is loaded is neither searched for garbage again and again nor taken apart at the end, in whatever process it is."""

import os
import subprocess
import sys
from pathlib import Path

from gateway_project.lib import garbage
from tests import children
from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[2]
SAY = "import gc; print(gc.get_threshold())"
# Handlers of the end run in the opposite order: this one speaks last.
SAY_LAST = "import atexit, gc; atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 1000))"


def said_by(*lines: str) -> str:
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_end_of_a_process_leaves_all_that_it_has_loaded() -> None:
    assert said_by(SAY_LAST) == "True False\n"
    assert said_by(SAY_LAST, "from gateway_project.lib import garbage", "garbage.search_seldom()") == "True True\n"


def test_what_is_loaded_is_not_searched_any_more_and_what_comes_is() -> None:
    lines = (
        "garbage.search_seldom()",
        "garbage.leave_what_is_loaded()",
        "print(gc.get_freeze_count() > 1000)",
        "print(gc.get_count()[0] < 100)",
    )
    assert said_by("import gc", "from gateway_project.lib import garbage", *lines, SAY) == f"True\nTrue\n{garbage.THRESHOLD}\n"


def test_commands_search_seldom(forks: Forks) -> None:
    ended = children.run(forks, "-m", "manage", "shell", "--no-imports", "-c", SAY, variables=dict(os.environ), seconds=60)
    assert ended == (0, str(garbage.THRESHOLD))


def test_workers_search_seldom_from_their_beginning_on() -> None:
    """Both programs of Celery tell their listeners when all code is loaded."""
    tell = "from celery.signals import {0}; from gateway_project import celery; {0}.send(sender=None)"
    for program in ("worker_init", "beat_init"):
        assert said_by(tell.format(program), SAY, "print(gc.get_freeze_count() > 1000)") == f"{garbage.THRESHOLD}\nTrue\n"
