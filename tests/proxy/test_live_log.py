"""In a browser: a call log that follows shows a call as it ends, marks it, and leaves alone whoever reads there."""

from __future__ import annotations

import re

from playwright.sync_api import Page, Route, expect

from tests.gateways import Gateway
from tests.house import MESSAGES, House
from tests.ledger_rows import call_row, insert_calls
from tests.proxy.test_first_fault import visit

NEW = re.compile("is-new")


def test_a_call_appears_while_one_looks_and_what_one_reads_stays(
    page: Page, gateway: Gateway, house: House, console_errors: list[str]
) -> None:
    insert_calls(call_row(house.key, requested_model="first-model"))
    visit(page, gateway, house, "calls/")
    page.get_by_role("link", name="Live", exact=True).click()
    rows, first = page.locator("tr[data-row]"), page.locator("tr[data-row]", has_text="first-model")
    expect(rows).to_have_count(1)
    first.locator("a[data-row-link]").focus()
    house.client(gateway.url).chat.completions.create(model="sandbox-instant", messages=MESSAGES)
    expect(rows).to_have_count(2, timeout=15_000)
    expect(rows.first).to_have_class(NEW)
    expect(first).not_to_have_class(NEW)
    expect(first.locator("a[data-row-link]")).to_be_focused()
    page.get_by_role("link", name="Pause").click()
    expect(page.get_by_role("link", name="Live", exact=True)).to_be_visible()
    expect(page.locator("[data-quiet]")).to_have_count(0)


def test_a_server_that_is_away_is_asked_again_without_a_word(
    page: Page, gateway: Gateway, house: House, console_errors: list[str]
) -> None:
    insert_calls(call_row(house.key))
    visit(page, gateway, house, "calls/?live=1")
    faults = iter((Route.abort, lambda route: route.fulfill(status=500, body="")))
    page.route(re.compile("seen="), lambda route: next(faults, Route.continue_)(route))
    insert_calls(call_row(house.key))
    expect(page.locator("tr[data-row]")).to_have_count(2, timeout=20_000)
    assert next(faults, None) is None
    expect(page.locator("#toasts .toast")).to_have_count(0)
    console_errors.clear()  # of the two that failed
