"""What a log line must not say, in every place where it could be said."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib import logs

SECRETS = {
    "own key": "gh_sk_4f2aB9_Zk3pQw8eRt5yUi1oPa6sDf",
    "own key without public part": "gh_sk_Zk3pQw8eRt5yUi1oPa6sDf7g",
    "openai": "sk-proj-Zk3pQw8eRt5yUi1oPa6sDf7gHj2k",
    "anthropic": "sk-ant-api03-Zk3pQw8eRt5yUi1oPa6_sDf-7gHj2k",
    "google": "AIzaSyZk3pQw8eRt5yUi1oPa6sDf7gHj2kL9xC4",
    "aws": "AKIAZK3PQW8ERT5YUI1O",
    "bearer token": "Bearer eyJhbGciOi.eyJzdWIiOiIx.Zk3pQw8eRt5y",
    "bearer token as headers come in": "bearer eyJhbGciOi.eyJzdWIiOiIx.Zk3pQw8eRt5y",
    "bearer token in base64": "Bearer Zk3/pQw8+eRt5/yUi1oPa6sDf7g==",
}
# No piece of the secret itself may be left, whatever its public beginning is.
TAIL = {name: secret[-9:] for name, secret in SECRETS.items()}
EVERY_SECRET = pytest.mark.parametrize("name", SECRETS)


@contextmanager
def configured(*, as_json: bool) -> Iterator[io.StringIO]:
    """What configure() makes a process write; the log of the test run is put back afterwards."""
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    logs.configure(level="INFO", as_json=as_json)
    written = io.StringIO()
    root.handlers[0].setStream(written)  # type: ignore[attr-defined]
    try:
        yield written
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**config)


@pytest.fixture(params=[False, True], ids=["for people", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    with configured(as_json=request.param) as written:
        yield written


@pytest.fixture
def json_log() -> Iterator[io.StringIO]:
    with configured(as_json=True) as written:
        yield written


def clean(log: io.StringIO, name: str) -> bool:
    text = log.getvalue()
    return bool(text) and TAIL[name] not in text and "[redacted]" in text


@EVERY_SECRET
def test_a_message_does_not_say_it(log: io.StringIO, name: str) -> None:
    structlog.get_logger("test").info(f"refused {SECRETS[name]} at the door")
    assert clean(log, name)


@EVERY_SECRET
def test_a_field_does_not_say_it(log: io.StringIO, name: str) -> None:
    structlog.get_logger("test").info("refused", header=SECRETS[name])
    assert clean(log, name)


@EVERY_SECRET
def test_a_field_inside_a_field_does_not_say_it(log: io.StringIO, name: str) -> None:
    structlog.get_logger("test").info("refused", request={"headers": [("authorization", SECRETS[name])]})
    assert clean(log, name)


@EVERY_SECRET
def test_a_field_that_is_no_text_does_not_say_it(log: io.StringIO, name: str) -> None:
    structlog.get_logger("test").info("refused", error=ValueError(SECRETS[name]), raw=SECRETS[name].encode())
    assert clean(log, name)


@EVERY_SECRET
def test_what_libraries_log_does_not_say_it(log: io.StringIO, name: str) -> None:
    logging.getLogger("some.library").warning("sent %s to %r", SECRETS[name], {"key": SECRETS[name]})
    assert clean(log, name)


@EVERY_SECRET
@pytest.mark.parametrize("library", [False, True])
def test_a_traceback_does_not_say_it(log: io.StringIO, name: str, library: bool) -> None:
    logger: Any = logging.getLogger("some.library") if library else structlog.get_logger("test")
    try:
        raise RuntimeError(f"the provider does not take {SECRETS[name]}")
    except RuntimeError:
        logger.exception("A call failed")
    assert "Traceback" in log.getvalue()
    assert "the provider does not take" in log.getvalue()
    assert clean(log, name)


def test_bound_context_is_cleaned_too(log: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(key=SECRETS["own key"]):
        structlog.get_logger("test").info("refused")
    assert clean(log, "own key")


def test_the_public_part_of_a_key_stays_to_find_it_by(log: io.StringIO) -> None:
    structlog.get_logger("test").info("refused", key=SECRETS["own key"])
    assert "gh_sk_4f2aB9_[redacted]" in log.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "task-resolve-holds is late",
        "risk-assessment of the disk-encryption",
        "model gpt-5-mini answered in 380 ms",
        "no bearer was sent",
        "call 0199a1b2-79b0-7cc3-98c4-dc0c0c07398f",
        "gh_sk_ is how keys begin",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert logs.redact(text) == text


@given(public=st.from_regex(r"[A-Za-z0-9]{4,16}", fullmatch=True), secret=st.from_regex(r"[A-Za-z0-9_\-]{12,60}", fullmatch=True))
def test_any_key_of_ours_is_found_wherever_it_stands(public: str, secret: str) -> None:
    line = logs.redact(f'{{"authorization":"gh_sk_{public}_{secret}","next":1}}')
    assert line == f'{{"authorization":"gh_sk_{public}_[redacted]","next":1}}'


@given(text=st.text(max_size=200))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = logs.redact(text)
    assert logs.redact(once) == once


@EVERY_SECRET
@pytest.mark.parametrize("before", ["\n", "\t", " ", '"', "key=", "(", "'", "/"])
def test_what_stands_before_a_secret_does_not_hide_it(json_log: io.StringIO, name: str, before: str) -> None:
    structlog.get_logger("test").info(f"text{before}{SECRETS[name]}", nested=[f"text{before}{SECRETS[name]}"])
    assert clean(json_log, name)


def test_a_json_line_is_one_object_with_time_level_logger_and_fields(json_log: io.StringIO) -> None:
    structlog.get_logger("proxy.pipeline").warning("two\nlines", attempts=2, model="gpt-5-mini")
    (line,) = json_log.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {"event": "two\nlines", "level": "warning", "logger": "proxy.pipeline", "attempts": 2, "model": "gpt-5-mini"}


def test_lines_of_libraries_have_the_same_shape(json_log: io.StringIO) -> None:
    logging.getLogger("django.request").error("Internal Server Error: %s", "/v1/x")
    found = json.loads(json_log.getvalue())
    assert (found["event"], found["level"], found["logger"]) == ("Internal Server Error: /v1/x", "error", "django.request")


@EVERY_SECRET
def test_a_cleaned_json_line_is_still_json(json_log: io.StringIO, name: str) -> None:
    structlog.get_logger("test").info(f'"{SECRETS[name]}"', nested={"key": SECRETS[name]}, last=1)
    assert json.loads(json_log.getvalue())["last"] == 1


def test_levels_and_chatty_libraries_are_kept_quiet(log: io.StringIO) -> None:
    structlog.get_logger("test").debug("too much detail")
    logging.getLogger("httpx").info("HTTP Request: POST https://…")
    logging.getLogger("uvicorn.access").info("GET /livez")
    logging.getLogger("uvicorn.error").error("ASGI callable returned without completing response.")
    assert log.getvalue() == ""


def test_a_level_can_be_named(log: io.StringIO) -> None:
    logging.getLogger().setLevel("WARNING")
    logging.getLogger("some.library").info("not this")
    logging.getLogger("some.library").warning("but this")
    assert "but this" in log.getvalue()
    assert "not this" not in log.getvalue()
