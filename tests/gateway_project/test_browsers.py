"""The browser of a test run: one for all modules of a process, at rest where none uses it."""

import asyncio
import os
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.gateways import Gateway

pytestmark = pytest.mark.usefixtures("committed_db")


async def said() -> str:
    await asyncio.sleep(0)
    return "done"


def test_where_no_test_uses_it_coroutines_run(chromium: tuple[Browser, Any]) -> None:
    assert asyncio.run(said()) == "done"
    assert chromium[0].is_connected()


def test_it_opens_the_sign_in_page(gateway: Gateway, page: Page) -> None:
    page.goto(f"{gateway.url}/accounts/login/")
    assert page.get_by_role("button", name="Continue").is_visible()
    never = said()
    with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
        asyncio.run(never)
    never.close()


def test_it_is_the_same_that_the_process_has(browser: Browser, chromium: tuple[Browser, Any]) -> None:
    assert browser is chromium[0]
    assert os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] == "1"
