"""Every page of the console in a browser: quiet in the console, whole on a phone, and readable for everyone.

With SCREENSHOTS_FOLDER set they are judged in the dark, too, and a picture of each is kept there: of 1440 and of 390 pixels.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from django.conf import settings
from django.test import Client
from django.urls import NoReverseMatch, reverse
from playwright.sync_api import Page

from billing.buckets import close_spend_buckets
from gateway_project.lib.money import NANO
from orgs.models import User
from orgs.services.freezing import freeze_organization
from tests import node
from tests.actors import operator
from tests.aimock import FOLDER
from tests.gateways import Gateway
from tests.house import MESSAGES, House
from tests.orgs.routes import routes_of
from tests.orgs.test_routes import MORE, URLCONF, arguments_of

AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# All pages, light and dark, take minutes: so it is where pictures are kept. Else those of every third route, in the light.
THOROUGH = bool(os.environ.get("SCREENSHOTS_FOLDER"))
THEMES = ("light", "dark") if THOROUGH else ("light",)
STEP = 1 if THOROUGH else 3
# Rules that only find lesser faults are not run. Contrast costs most: a part of the frame that stands on every page (this very
# HTML, below elements of these classes) is judged on the first that has it.
FRAME = ".gh-sidebar :is(li, a, button, .gh-nav-section), .gh-topbar :is(a, button, span)"
RUN_AXE = """async ([rules, theme, frame]) => {
    const judged = new Set(JSON.parse(sessionStorage.getItem("judged") ?? "[]"));
    for (const part of document.querySelectorAll(frame)) {
        const found = [theme, part.outerHTML];
        for (let one = part.parentElement; one; one = one.parentElement) found.push(one.tagName + "." + one.className);
        const text = found.join(" < ");
        if (judged.has(text)) part.dataset.judged = "";
        else judged.add(text);
    }
    axe.configure({rules: [{id: "color-contrast", selector: "*:not([data-judged], [data-judged] *)"}]});
    const lesser = axe._audit.rules.filter(rule => ["minor", "moderate"].includes(rule.impact));
    const off = Object.fromEntries(lesser.map(rule => [rule.id, {enabled: false}]));
    const options = {resultTypes: ["violations"], preload: false, rules: off};
    if (rules.length) options.runOnly = {type: "rule", values: rules};
    const found = await axe.run(document, options);
    document.querySelectorAll("[data-judged]").forEach(part => delete part.dataset.judged);
    sessionStorage.setItem("judged", JSON.stringify([...judged]));
    return found.violations.filter(one => ["serious", "critical"].includes(one.impact))
        .flatMap(one => one.nodes.map(node => `${one.id}: ${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`));
}"""
# A chart takes its new width a moment after the page has its own.
WIDTH = """async wanted => {
    const until = performance.now() + 3000;
    while (document.scrollingElement.scrollWidth > wanted && performance.now() < until) await new Promise(requestAnimationFrame);
    return document.scrollingElement.scrollWidth;
}"""
RULES = {"light": [], "dark": ["color-contrast"]}
NOT_LOOKED_AT = {"account_logout", "api_absent"}  # one would end the session, the other is no page
NO_PAGES = ("/api/v1/organizations", "/scim/")


class Visit(NamedTuple):
    name: str
    person: str
    url: str
    status: int = 200

    @property
    def picture(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


class Visitors:
    """Signed in as each of the people, in Django's test client and in the browser by the same session."""

    def __init__(self, people: dict[str, User | None]) -> None:
        self.clients = {name: self._client(user) for name, user in people.items()}

    def _client(self, user: User | None) -> Client:
        """Just signed in by password, so that no page asks who it is."""
        client = Client()
        if user is not None:
            client.force_login(user)
            session = client.session
            session[AUTHENTICATION_METHODS_SESSION_KEY] = [{"method": "password", "at": time.time(), "email": user.email}]
            session.save()
        return client

    def first_who_sees(self, name: str, url: str) -> Visit | None:
        """None where everybody is sent elsewhere, or what comes is no whole page: a part of one, a file, JSON."""
        for person, client in self.clients.items():
            answer = client.get(url)
            if answer.status_code == 200:
                is_page = not answer.streaming and b"<html" in answer.content[:2000]
                return Visit(name, person, url) if is_page else None
        return None

    def cookie(self, person: str, gateway: Gateway) -> list[Any]:
        morsel = self.clients[person].cookies.get(settings.SESSION_COOKIE_NAME)
        return [{"name": settings.SESSION_COOKIE_NAME, "value": morsel.value, "url": gateway.url}] if morsel else []


@pytest.fixture
def axe() -> str:
    if not node.installed(FOLDER) or not AXE.is_file():
        pytest.skip("tests of every page need axe-core from npm: make standins")
    return AXE.read_text()


@pytest.fixture
def visitors(house: House, gateway: Gateway) -> Visitors:
    """Alice is Super Admin of the house, Charlie of one that is frozen, Olive runs the installation."""
    for _ in range(3):
        house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)
    house.limit("budget", NANO)
    close_spend_buckets()
    by = operator()
    freeze_organization(house.world.other, reason="Unpaid invoices", by=by)
    people = {"alice": house.world.alice, "olive": by.user, "nobody": None, "charlie": house.world.charlie}
    return Visitors(people)


def every_page(house: House, visitors: Visitors) -> Iterator[Visit]:
    arguments = arguments_of(house.world) | {"call_id": house.rows()[0].call_id}
    for make in dict.fromkeys(MORE.values()):
        arguments |= make(house.world)
    routes = [route for route in routes_of(URLCONF) if route.name not in NOT_LOOKED_AT and not route.path.startswith(NO_PAGES)]
    addresses = [(route.name, url) for route in routes if (url := _address(route.name, route.arguments, arguments))]
    for name, url in addresses[::STEP]:
        if visit := visitors.first_who_sees(name, url):
            yield visit
    yield Visit("no such page", "alice", f"/o/{house.organization.slug}/nothing/", 404)
    yield Visit("frozen", "charlie", house.world.other.get_absolute_url(), 403)


def _address(name: str, wanted: frozenset[str], arguments: dict[str, Any]) -> str:
    try:
        return reverse(name, kwargs={one: arguments[one] for one in wanted})
    except (KeyError, NoReverseMatch):
        return ""


def problems_of(page: Page, visit: Visit) -> list[str]:
    """At both widths, in each theme; axe sees the wide page, whose parts the narrow one has too."""
    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        found += [f"{theme}: {problem}" for problem in page.evaluate(RUN_AXE, [RULES[theme], theme, FRAME])]
        _keep(page, f"{visit.picture}-{theme}-1440")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    if (width := page.evaluate(WIDTH, PHONE["width"])) > PHONE["width"]:
        found.append(f"{width} pixels wide on a phone of {PHONE['width']}")
    for theme in reversed(THEMES):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        _keep(page, f"{visit.picture}-{theme}-390")
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    return found


def _keep(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS_FOLDER"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.timeout(900)
def test_every_page_is_quiet_fits_a_phone_and_has_no_serious_barrier(
    page: Page, console_errors: list[str], gateway: Gateway, house: House, visitors: Visitors, axe: str
) -> None:
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.add_init_script(axe)
    problems: dict[str, list[str]] = {}
    visited = []
    person = ""
    for visit in every_page(house, visitors):
        if visit.person != person:
            person = visit.person
            page.context.clear_cookies()
            page.context.add_cookies(visitors.cookie(person, gateway))
        answer = page.goto(f"{gateway.url}{visit.url}")
        page.wait_for_selector(".htmx-request", state="detached")  # parts that it asked for while it loaded
        assert answer is not None
        assert (answer.status, urlsplit(page.url).path) == (visit.status, visit.url), visit
        expected = f"status of {visit.status}"
        found = problems_of(page, visit) + [error for error in console_errors if expected not in error]
        console_errors.clear()
        if found:
            problems[visit.name] = found
        visited.append(visit.name)

    told = "\n".join(f"{name}\n    " + "\n    ".join(found) for name, found in problems.items())
    assert not problems, f"{len(visited)} pages, {len(problems)} with problems:\n{told}"
    assert len(visited) >= 80 // STEP
