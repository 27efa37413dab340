import io
import json
import re
import shlex
import threading
from typing import Any

import pytest

from gateway_project.embedded import summary
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.terminal import Terminal

DEMO: dict[str, Any] = {
    "gateway_url": "http://127.0.0.1:8123/v1",
    "console_url": "http://127.0.0.1:8123/",
    "api_key": "gh_sk_abc_def",
    "users": [
        {"email": "alice@example.com", "password": "pass word's", "role": "Super Admin"},
        {"email": "mia@example.com", "password": "x", "role": "Member"},
    ],
}


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def test_lines_carry_the_name_of_their_child(out: io.StringIO) -> None:
    Terminal(out).log("web", "started")
    assert out.getvalue() == "web      | started\n"


def test_a_step_shows_its_label_at_once_and_its_time_when_it_is_through(out: io.StringIO) -> None:
    with Terminal(out).step("Database schema"):
        assert out.getvalue() == "  Database schema … "
    assert re.fullmatch(r"  Database schema … \d+\.\d s\n", out.getvalue())


def test_a_line_in_between_does_not_break_the_step(out: io.StringIO) -> None:
    terminal = Terminal(out)
    with terminal.step("Database schema"):
        terminal.log("prepare", "migrating")
    assert re.fullmatch(r"  Database schema … \nprepare  \| migrating\n  Database schema: \d+\.\d s\n", out.getvalue())


def test_a_step_that_fails_gets_no_time(out: io.StringIO) -> None:
    terminal = Terminal(out)
    with pytest.raises(StartError), terminal.step("Database schema"):
        raise StartError("no")
    terminal.say("no")
    assert out.getvalue() == "  Database schema … \nno\n"


def test_lines_of_many_threads_stay_whole(out: io.StringIO) -> None:
    terminal = Terminal(out)

    def write() -> None:
        for _ in range(50):
            terminal.log("web", "x" * 50)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out.getvalue() == ("web      | " + "x" * 50 + "\n") * 400


def test_a_closed_terminal_stops_nobody(out: io.StringIO) -> None:
    terminal = Terminal(out)
    out.close()
    terminal.say("anybody there?")


def test_the_summary_names_console_login_key_and_a_call() -> None:
    text = "\n".join(summary.lines(DEMO, url="http://127.0.0.1:8123"))
    for expected in ("http://127.0.0.1:8123/", "alice@example.com", "pass word's", "Super Admin", "gh_sk_abc_def", "curl "):
        assert expected in text
    assert "mia@example.com" not in text
    assert "   .venv/bin/python manage.py demo   shows 1 more" in text


def test_a_command_in_the_summary_finds_a_state_folder_that_lies_elsewhere() -> None:
    text = "\n".join(summary.lines(DEMO, url="http://127.0.0.1:8123", home="/srv/gate house"))
    assert "GATEHOUSE_HOME='/srv/gate house' .venv/bin/python manage.py demo   shows 1 more" in text


def test_who_is_alone_is_told_of_nobody_else() -> None:
    text = "\n".join(summary.lines({**DEMO, "users": DEMO["users"][:1]}, url="http://127.0.0.1:8123"))
    assert "more" not in text


def test_without_a_demo_organisation_the_summary_names_the_console() -> None:
    assert summary.lines({}, url="http://127.0.0.1:8123") == ["", "Console   http://127.0.0.1:8123/", ""]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8123/v1", "http://127.0.0.1:8123", "http://127.0.0.1:8123/v1/"])
def test_the_printed_call_is_one_shell_command(url: str) -> None:
    words = shlex.split(summary.curl(url, key="gh_sk_a'b", body={"model": "m", "messages": []}))
    assert words[:2] == ["curl", "http://127.0.0.1:8123/v1/chat/completions"]
    assert "Authorization: Bearer gh_sk_a'b" in words
    assert json.loads(words[-1]) == {"model": "m", "messages": []}
