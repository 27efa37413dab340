"""In a browser: a secret that is shown once is not lost by a slip. Until it is copied, or said to be kept, leaving asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from playwright.sync_api import Dialog, Page, expect

from tests.actors import signed_in
from tests.gateways import Gateway
from tests.house import House


@pytest.fixture
def asked(page: Page) -> Iterator[list[str]]:
    """The kinds of questions that the browser has asked, each answered by staying."""
    kinds: list[str] = []

    def stay(dialog: Dialog) -> None:
        kinds.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    yield kinds
    page.remove_listener("dialog", stay)


@contextmanager
def question(page: Page) -> Iterator[None]:
    """What is done within is asked about; until then it is waited."""
    with page.expect_event("dialog"):
        yield


def visit(page: Page, gateway: Gateway, house: House, path: str, *, name: str = "mia") -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    session = signed_in(house.world, name).cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": gateway.url}])
    page.goto(f"{gateway.url}{path}")


def make_key(page: Page, gateway: Gateway, house: House, *, in_dialog: bool) -> None:
    keys = f"/o/{house.organization.slug}/keys/"
    visit(page, gateway, house, keys if in_dialog else f"{keys}new/")
    if in_dialog:
        page.get_by_role("link", name="New API key").first.click()
    page.get_by_label("Name").fill("Notebook")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#secret")).to_contain_text("gh_sk_")


def test_a_dialog_with_a_new_key_is_closed_only_by_who_means_it(
    page: Page, gateway: Gateway, house: House, asked: list[str]
) -> None:
    make_key(page, gateway, house, in_dialog=True)
    with question(page):
        page.locator("#dialog").get_by_label("Close").click()
    assert asked == ["confirm"]
    expect(page.locator("#secret")).to_be_visible()
    page.locator("#dialog").get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#dialog [data-copy-label]").first).to_have_text("Copied")
    page.locator("#dialog").get_by_label("Close").click()
    expect(page.locator("#dialog")).to_be_hidden()
    assert asked == ["confirm"]


def leave(page: Page) -> None:
    page.get_by_role("link", name="Overview", exact=True).first.click(no_wait_after=True)


@pytest.mark.parametrize("copied", ["#secret ~ button", "[data-copy^='#secret-code']"], ids=["alone", "in a snippet"])
def test_leaving_the_page_of_a_new_key_asks_until_it_is_copied(
    page: Page, gateway: Gateway, house: House, asked: list[str], copied: str
) -> None:
    make_key(page, gateway, house, in_dialog=False)
    with question(page):
        leave(page)
    expect(page.locator("#secret")).to_be_visible()
    assert asked == ["beforeunload"]
    page.locator(copied).click()
    expect(page.locator("#secret[data-saved]")).to_be_visible()
    leave(page)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert asked == ["beforeunload"]


def test_who_copies_by_hand_or_says_that_it_is_kept_is_not_asked(
    page: Page, gateway: Gateway, house: House, asked: list[str]
) -> None:
    make_key(page, gateway, house, in_dialog=False)
    page.locator("#secret").click(click_count=3)
    page.keyboard.press("Control+c")
    expect(page.locator("#secret[data-saved]")).to_be_visible()
    make_key(page, gateway, house, in_dialog=True)
    page.get_by_role("link", name="I have saved it").click()
    expect(page.get_by_role("heading", name="Notebook")).to_be_visible()
    assert asked == []


def test_an_access_token_is_guarded_alike(page: Page, gateway: Gateway, house: House, asked: list[str]) -> None:
    visit(page, gateway, house, "/tokens/")
    page.get_by_label("Name").fill("Script")
    page.locator("input[name=read]").first.check()
    page.get_by_role("button", name="Make the token").click()
    with question(page):
        page.get_by_role("button", name="Revoke Script").click(no_wait_after=True)
    expect(page.locator("#token-text")).to_be_visible()
    assert asked == ["beforeunload"]
    expect(page.locator(".is-busy")).to_have_count(0)


def test_a_directorys_token_is_guarded_alike(page: Page, gateway: Gateway, house: House, asked: list[str]) -> None:
    visit(page, gateway, house, f"/o/{house.organization.slug}/security/provisioning/", name="alice")
    page.get_by_role("link", name="Make a token").first.click()
    page.get_by_role("button", name="Make the token").click()
    expect(page.locator("#scim-token")).to_be_visible()
    with question(page):
        page.locator("#dialog").get_by_label("Close").click()
    expect(page.locator("#scim-token")).to_be_visible()
    assert asked == ["confirm"]
