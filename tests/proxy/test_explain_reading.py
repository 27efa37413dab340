"""What a newcomer reads on the explain page: keys by name, words for codes, moments by the page's clock, the answer in sight."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Page

from gateway_project.lib.formatting import code_words, local_words
from gateway_project.lib.money import NANO
from orgs.models import Organization
from orgs.services.keys import create_api_key, revoke_key
from tests.gateways import Gateway
from tests.house import House, eventually
from tests.proxy.test_explain_page import get, page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It resets on 2026-11-30 at 23:00 UTC; ask.", "It resets on Dec 1, 2026, 00:00; ask."),
        ("valid until 2026-07-01 10:05 UTC", "valid until Jul 1, 2026, 12:05"),
        ("no moment, 23:00 UTC", "no moment, 23:00 UTC"),
        ("", ""),
    ],
)
def test_moments_are_said_by_the_clock_of_the_page(text: str, said: str) -> None:
    assert local_words(text, ZoneInfo("Europe/Berlin")) == said


@pytest.mark.parametrize(("code", "said"), [("budget_exceeded", "budget exceeded"), ("ip_not_allowed", "IP not allowed")])
def test_codes_are_words(code: str, said: str) -> None:
    assert code_words(code) == said


def test_a_refusal_is_told_in_words_and_by_the_clock_of_the_organisation(gateway: Gateway, house: House) -> None:
    house.limit("budget", NANO // 1000, group=house.world.platform)
    Organization.objects.filter(pk=house.organization.pk).update(time_zone="Asia/Tokyo")

    text = page(gateway, house, key=house.key.public_id, model="scripted", max_tokens=4000)

    assert "Refused: budget exceeded" in text
    verdict = text[text.index('id="verdict"') : text.index('class="gh-path"')]
    assert "<code>budget_exceeded</code>" in verdict
    assert "UTC" not in verdict
    now = datetime.now(UTC).astimezone(ZoneInfo("Asia/Tokyo"))
    first = f"{now.year + now.month // 12}-{now.month % 12 + 1:02}-01T00:00"
    assert f"It resets on {datetime.fromisoformat(first):%b} 1, {first[:4]}, 00:00" in verdict


@pytest.mark.parametrize("typed", ["Mia's key", "mia's KEY", " Mia ", "ia's"])
def test_a_key_is_found_by_its_name_or_its_members_where_only_one_fits(gateway: Gateway, house: House, typed: str) -> None:
    assert "Passes" in page(gateway, house, key=typed, model="scripted")


def test_where_a_name_fits_several_they_are_offered_and_each_leads_on(gateway: Gateway, house: House) -> None:
    other, _ = create_api_key(house.world.gateway, name="Second of hers", member=house.world.mia, by=house.world.actor("mia"))
    gone, _ = create_api_key(house.world.gateway, name="Gone", member=house.world.mia, by=house.world.actor("mia"))
    revoke_key(gone, by=house.world.actor("mia"))

    text = page(gateway, house, key="Mia", model="scripted")

    assert "Which of these keys?" in text
    links = [unescape(link) for link in re.findall(r'<a class="fw-medium" href="\?([^"]+)"', text)]
    assert sorted(links) == sorted(f"key={key.public_id}&model=scripted" for key in (house.key, other))
    assert "Passes" in page(gateway, house, key="second", model="scripted")
    assert "Passes" in page(gateway, house, key="mia's key", model="scripted")


@pytest.mark.parametrize("typed", ["Mia", "mia's key", "\x07", "   ", "%"])
def test_a_name_finds_nothing_that_one_may_not_see(gateway: Gateway, house: House, typed: str) -> None:
    text = page(gateway, house, user=house.world.noah, key=typed, model="scripted")
    assert "Passes" not in text
    assert house.key.public_id not in text


def test_the_other_page_that_asks_for_a_key_takes_names_too(gateway: Gateway, house: House) -> None:
    assert "Mia&#x27;s key</a>" in get(gateway, house, "routing/which/", key="Mia", model="scripted")


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_on_a_phone_the_answer_comes_into_sight(gateway: Gateway, house: House, open_page: Any, motion: Any) -> None:
    tab: Page = open_page()
    client = Client()
    client.force_login(house.world.mia)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    tab.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": gateway.url}])
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(reduced_motion=motion)
    address = f"{gateway.url}/o/{house.organization.slug}/guardrails/explain/"

    tab.goto(address)
    assert tab.evaluate("scrollY") == 0
    tab.goto(f"{address}?key={house.key.public_id}&model=scripted")

    def top(of: str) -> float:
        return float(tab.locator(of).bounding_box()["y"])  # type: ignore[index]

    assert eventually(lambda: top(".gh-verdict") < 844 / 3)
    assert top(".gh-verdict") >= 0
    tab.set_viewport_size({"width": 1440, "height": 900})
    tab.goto(address)
    tab.goto(f"{address}?key={house.key.public_id}&model=scripted")
    tab.locator("#verdict").wait_for()
    assert tab.evaluate("scrollY") == 0
