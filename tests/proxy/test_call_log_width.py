"""In a browser: at the width of a usual laptop the call log shows usual names whole, and all its columns without scrolling."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.actors import signed_in
from tests.gateways import Gateway
from tests.house import House
from tests.ledger_rows import call_row, insert_calls

LAPTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)
PLAIN: dict[str, Any] = {}
REFUSED: dict[str, Any] = {"status": "refused", "error_code": "token_rate_limit_exceeded", "call_count": 1200}
CUT: dict[str, Any] = {"status": "cut", "error_code": "hold_used_up", "input_tokens": 1_234_567, "output_tokens": 32_768}


def is_whole(text: Locator) -> bool:
    return bool(text.evaluate("element => element.scrollWidth <= element.clientWidth"))


def test_a_usual_caller_is_read_whole_and_no_column_is_out_of_sight(page: Page, gateway: Gateway, house: House) -> None:
    world = house.world
    for thing, name in ((world.mia, "Name of usual size"), (house.key, "Support"), (world.assistant, "Customer support")):
        thing.name = name
        thing.save()
    house.key.application, house.key.environment = world.assistant, "production"
    model = "claude-sonnet-4-5-20250929-with-a-long-name"
    rows = [call_row(house.key, feature="ticket-summaries", requested_model=model, **more) for more in (PLAIN, REFUSED, CUT)]
    insert_calls(*rows)
    session = signed_in(world, "alice").cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": gateway.url}])
    page.goto(f"{gateway.url}/o/{house.organization.slug}/calls/")
    expect(page.locator("tr[data-row]")).to_have_count(3)
    for size in (LAPTOP, PHONE):
        page.set_viewport_size(size)
        for words in ("Name of usual size", "Support", "Customer support"):
            assert is_whole(page.get_by_text(words, exact=True).first), (size, words)
        assert is_whole(page.get_by_role("region", name="Calls")), size
