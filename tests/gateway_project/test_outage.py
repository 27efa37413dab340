"""The console while PostgreSQL is away: a page that says so, with status 503; other faults stay 500."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import psycopg
import pytest
from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest
from django.test import RequestFactory

from gateway_project import outage
from tests.gateways import Gateway

REFUSED = "postgresql://gatehouse@127.0.0.1:9/gatehouse"


def answered(error: Exception) -> tuple[int, str]:
    request: HttpRequest = RequestFactory().get("/")
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
        ValueError("a fault of ours"),
        DataError("a bad figure"),
        caused(OperationalError("too slow"), psycopg.errors.QueryCanceled("statement timeout")),
        caused(OperationalError("locked"), psycopg.errors.LockNotAvailable("lock")),
    ],
)
def test_other_faults_are_ours(error: Exception) -> None:
    status, text = answered(error)
    assert status == 500
    assert "Something went wrong" in text


def test_every_page_of_the_console_says_so_and_comes_again(start_gateway: Callable[..., Gateway]) -> None:
    without = start_gateway("without-postgresql", DATABASE_URL=REFUSED)
    cookies = {"sessionid": "a" * 32}
    for path in ("/", "/o/acme/", "/accounts/login/"):
        got = httpx.get(f"{without.url}{path}", cookies=cookies, trust_env=False, timeout=20)
        if path == "/accounts/login/" and got.status_code == 200:
            continue  # it needs no database to be shown
        assert (got.status_code, got.headers["retry-after"]) == (503, "10"), path
        assert "database cannot be reached" in got.text
        assert "Traceback" not in got.text
