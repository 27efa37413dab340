"""In a browser: a form that comes back with errors is gone on with at the first of them, on a page as in a dialog."""

from __future__ import annotations

from django.conf import settings
from playwright.sync_api import Page, expect

from tests.actors import signed_in
from tests.gateways import Gateway
from tests.house import House


def visit(page: Page, gateway: Gateway, house: House, path: str) -> None:
    session = signed_in(house.world, "alice").cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": gateway.url}])
    page.goto(f"{gateway.url}/o/{house.organization.slug}/{path}")


def test_on_a_page(page: Page, gateway: Gateway, house: House, console_errors: list[str]) -> None:
    visit(page, gateway, house, "roles/new/")
    name, permission = page.locator("#id_name"), page.locator("input[name=permissions]").first
    expect(name).to_be_focused()
    name.fill("Lead")
    page.get_by_role("button", name="Create role").click()
    expect(permission).to_be_focused()
    expect(permission).to_have_attribute("aria-invalid", "true")
    name.fill(" ")
    page.get_by_role("button", name="Create role").click()
    expect(name).to_be_focused()
    console_errors.clear()  # that an answer was 422


def test_in_a_dialog(page: Page, gateway: Gateway, house: House, console_errors: list[str]) -> None:
    visit(page, gateway, house, "groups/")
    page.get_by_role("link", name="New group").first.click()
    expect(page.locator("#dialog #id_name")).to_be_focused()
    page.locator("#dialog #id_name").fill("Fresh")
    page.locator("#dialog #id_owner").fill("nobody@example.test")
    page.get_by_role("button", name="Create group").click()
    expect(page.locator("#dialog #id_owner")).to_be_focused()
    console_errors.clear()
