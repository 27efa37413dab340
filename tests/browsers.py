"""The browser of a test run: Debian's chromium driven by Playwright, one fresh context per test."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

# The first is the same without windows, for half the CPU.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
]
# A busy machine is no failure.
PATIENCE_MS = 30_000


@pytest.fixture(scope="session")
def chromium() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """Started once by each process of a run, with the event loop that Playwright drives it by, which is at rest meanwhile."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("browser tests need chromium: apt-get install chromium-headless-shell")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        loop = asyncio.get_running_loop()
        with running(None):
            yield browser, loop
        browser.close()


@contextmanager
def running(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Playwright's loop is left and entered in the midst of its work: while it counts as running here, `asyncio.run` fails."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


@pytest.fixture(scope="module")
def browser(chromium: tuple[Browser, asyncio.AbstractEventLoop]) -> Iterator[Browser]:
    started, loop = chromium
    with running(loop), pytest.MonkeyPatch.context() as patched:
        patched.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # that loop is not ours: the test's own queries are plain ones
        yield started


@pytest.fixture
def console_errors() -> list[str]:
    """What the pages wrote to the browser's console as errors, which is where violations of the content security policy
    and answers that are errors stand too, and exceptions nobody caught. `open_page` fills it."""
    return []


@pytest.fixture
def open_page(browser: Browser, console_errors: list[str]) -> Iterator[Callable[[], Page]]:
    """`open_page()`: a page in a context of its own, as if somebody else sat at another computer; the test fails if a
    console shows an error that it has not cleared. Nothing moves there, which a tenth of the CPU would be for."""
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            console_errors.append(message.text)

    def opened() -> Page:
        context = browser.new_context(
            locale="en-GB", timezone_id="UTC", viewport={"width": 1280, "height": 800}, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: console_errors.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not console_errors, f"the browser's console shows errors: {console_errors}"


@pytest.fixture
def page(open_page: Callable[[], Page]) -> Page:
    return open_page()
