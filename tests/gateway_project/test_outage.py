"""The console while PostgreSQL or Redis is away: a page that says so, with status 503; other faults stay 500."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import psycopg
import pytest
from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest
from django.test import Client, RequestFactory
from pytest_django import Settings
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway_project import outage
from gateway_project.lib.redis import RedisUnavailable
from orgs.api.errors import EVERY_CODE
from tests.gateways import Gateway

REFUSED = "postgresql://gatehouse@127.0.0.1:9/gatehouse"


def answered(error: Exception, path: str = "/") -> tuple[int, str]:
    request: HttpRequest = RequestFactory().get(path)
    try:
        raise error
    except Exception:
        response = outage.server_error(request)
    return response.status_code, response.content.decode()


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("connection refused"),
        InterfaceError("connection already closed"),
        caused(OperationalError("terminating"), psycopg.errors.AdminShutdown("terminating")),
        caused(OperationalError("starting up"), psycopg.errors.CannotConnectNow("starting up")),
        caused(RuntimeError("a template failed"), OperationalError("connection refused")),
    ],
)
def test_a_server_that_cannot_be_reached_is_an_outage(error: Exception) -> None:
    status, text = answered(error)
    assert status == 503
    assert "database cannot be reached" in text


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("connection refused"),
        RedisTimeoutError("no answer"),
        caused(RuntimeError("a template failed"), BusyLoadingError("loading")),
        RedisUnavailable("no answer"),
    ],
)
def test_without_redis_the_page_says_that_nothing_was_changed(error: Exception) -> None:
    status, text = answered(error)
    assert status == 503
    assert "Nothing was changed" in text
    assert "http-equiv" not in text


@pytest.mark.django_db
def test_a_sign_in_without_redis_is_answered_so(settings: Settings) -> None:
    """Through the whole of it: guessing could not be counted."""
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:9/0"}}
    browser = Client(raise_request_exception=False, REMOTE_ADDR="2001:db8::7")
    answer = browser.post("/accounts/login/", {"login": "mia@example.test", "password": "wrong"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "Nobody new can sign in" in answer.content.decode()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault of ours"),
        ResponseError("a bad command"),
        DataError("a bad figure"),
        caused(OperationalError("too slow"), psycopg.errors.QueryCanceled("statement timeout")),
        caused(OperationalError("locked"), psycopg.errors.LockNotAvailable("lock")),
    ],
)
def test_other_faults_are_ours(error: Exception) -> None:
    status, text = answered(error)
    assert status == 500
    assert "Something went wrong" in text


@pytest.mark.parametrize(
    ("error", "status", "code"), [(OperationalError("refused"), 503, "unavailable"), (ValueError("ours"), 500, "internal")]
)
def test_programs_are_told_in_their_own_shape(error: Exception, status: int, code: str) -> None:
    got, text = answered(error, "/api/v1/organizations")
    told = json.loads(text)["error"]
    assert (got, told["code"], told["param"]) == (status, code, None)
    assert code in dict(EVERY_CODE)


def test_every_page_of_the_console_says_so_and_comes_again(start_gateway: Callable[..., Gateway]) -> None:
    without = start_gateway("without-postgresql", DATABASE_URL=REFUSED)
    cookies = {"sessionid": "a" * 32}
    for path in ("/", "/o/acme/", "/accounts/login/"):
        got = httpx.get(f"{without.url}{path}", cookies=cookies, trust_env=False, timeout=20)
        if path == "/accounts/login/" and got.status_code == 200:
            continue  # it needs no database to be shown
        assert (got.status_code, got.headers["retry-after"]) == (503, "10"), path
        assert "database cannot be reached. Calls of programs go on" in got.text
        assert "Traceback" not in got.text
