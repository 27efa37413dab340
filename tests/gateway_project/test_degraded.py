"""What is away is told: to monitors by /readyz, to people by a banner on every page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from pytest_django import Settings

from billing import spool
from billing.spool import Spool
from gateway_project import degraded
from gateway_project.lib import redis
from tests.actors import World
from tests.billing.test_spool import entry
from tests.gateway_project.test_probes import EVERYTHING_ANSWERS, ask

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.SPOOL_FOLDER = tmp_path / "spool"
    monkeypatch.setattr(degraded, "_last", None)
    return tmp_path / "spool"


@pytest.fixture
def three_rows_wait() -> None:
    async def work() -> None:
        own = Spool("w1")
        await own.append([spool.encode(entry(number)) for number in (1, 2, 3)])
        own.close()

    asyncio.run(work())


@pytest.fixture
def no_redis(settings: Settings) -> Iterator[None]:
    redis.client.cache_clear()
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    yield
    redis.client.cache_clear()


def page(world: World) -> str:
    client = Client()
    client.force_login(world.mia)
    return client.get(f"/o/{world.acme.slug}/", follow=True).content.decode()


def test_nothing_is_said_while_all_is_well(world: World) -> None:
    assert "gh-degraded" not in page(world)


def test_people_see_that_figures_are_behind(world: World, three_rows_wait: None) -> None:
    shown = page(world)
    assert "Figures are behind:" in shown
    assert "3 calls recorded" in shown
    assert "Calls are refused" not in shown


def test_people_see_that_calls_are_refused(no_redis: None) -> None:
    state = degraded.state()
    assert (bool(state), state.redis, state.spooled_rows) == (True, False, 0)


@pytest.mark.parametrize("passes", [False, True])
def test_the_banner_says_what_the_organisation_has_chosen(world: World, no_redis: None, passes: bool) -> None:
    world.acme.admit_unguarded = passes
    shown = render_to_string("components/degraded.html", {"degraded": degraded.state(), "organization": world.acme})
    assert ("Calls pass unchecked:" in shown, "Calls are refused:" in shown) == (passes, not passes)
    assert ("They are charged when it is back." in shown, "503" in shown) == (passes, not passes)


def test_outside_an_organisation_the_banner_says_what_is_usual(no_redis: None) -> None:
    assert "Calls are refused:" in render_to_string("components/degraded.html", {"degraded": degraded.state()})


def test_strangers_are_told_nothing(three_rows_wait: None) -> None:
    request = RequestFactory().get("/")
    assert degraded.banner(request) == {}
    assert b"gh-degraded" not in Client().get("/accounts/login/").content


def test_it_is_found_out_once_for_pages_that_follow_each_other(three_rows_wait: None, folder: Path) -> None:
    assert degraded.state().spooled_rows == 3
    (folder / "w1.spool").unlink()
    assert degraded.state().spooled_rows == 3
    assert degraded._last is not None
    degraded._last = (degraded._last[0] - degraded.REMEMBERED_SECONDS - 1, degraded._last[1])
    assert not degraded.state()


# --- monitors ----------------------------------------------------------------------------------
def test_rows_that_wait_make_it_degraded_and_leave_it_ready(three_rows_wait: None) -> None:
    status, answer = ask()
    since = spool.backlog().since
    assert since is not None
    waiting: dict[str, Any] = {"status": "degraded", "spooled_rows": 3, "spooled_since": since.isoformat()}
    assert (status, answer) == (200, EVERYTHING_ANSWERS | waiting)


def test_without_postgresql_it_is_ready_as_long_as_the_disk_takes_rows(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "9")
    assert ask() == (200, EVERYTHING_ANSWERS | {"status": "degraded", "postgres": "unavailable"})

    (tmp_path / "a file").touch()
    settings.SPOOL_FOLDER = tmp_path / "a file" / "spool"
    assert ask() == (503, EVERYTHING_ANSWERS | {"status": "unavailable", "postgres": "unavailable"})
