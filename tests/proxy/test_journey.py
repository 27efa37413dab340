"""The first governed call, as a newcomer makes it: browser, key, snippet, stream, ledger, budget, refusal, switched off."""

import re
import secrets

import openai
import pytest
from playwright.sync_api import Page, expect

from billing.buckets import close_spend_buckets
from gateway_project.lib.money import NANO
from tests.gateways import Gateway
from tests.house import MESSAGES, House, eventually

PASSWORD = "a-long-enough-passphrase"


@pytest.fixture
def mia(house: House) -> str:
    """The e-mail address of a member who can sign in. Her company offers one model, whatever others have declared."""
    house.policy(rules={"models": ["scripted"]}, to={"group": house.world.root})
    user = house.world.mia
    user.set_password(PASSWORD)
    user.save()
    return user.email


def sign_in(page: Page, gateway: Gateway, email: str) -> None:
    page.goto(gateway.url)
    expect(page).to_have_url(re.compile("/accounts/login/"))
    page.get_by_label(re.compile("E-?mail")).fill(email)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def open_company(page: Page, gateway: Gateway, house: House) -> str:
    """The console of the organisation; people start in the one they used last."""
    url = f"{gateway.url}{house.organization.get_absolute_url()}"
    page.goto(url)
    return url


def create_key(page: Page, name: str, *, budget: str = "") -> str:
    page.get_by_role("link", name="API keys", exact=True).first.click()
    page.get_by_role("link", name="New API key").first.click()
    page.get_by_label("Name").fill(name)
    if budget:
        page.locator("input[name=budget]").fill(budget)
    page.get_by_role("button", name="Create key").click()
    shown = page.locator("#secret")
    expect(shown).to_contain_text("gh_sk_")
    return re.search(r"gh_sk_\w+_[\w-]+", shown.inner_text()).group()  # type: ignore[union-attr]


def test_from_sign_in_to_a_refusal_and_a_switched_off_key(
    page: Page, console_errors: list[str], gateway: Gateway, second_gateway: Gateway, house: House, mia: str
) -> None:
    page.emulate_media(reduced_motion="no-preference")  # as most people have it
    name = f"Notebook {secrets.token_hex(3)}"
    sign_in(page, gateway, mia)
    console = open_company(page, gateway, house)
    key = create_key(page, name)

    # The dialog's own button makes a streamed call with the key.
    page.get_by_role("button", name="Send a test call").click()
    expect(page.locator("#secret-test [data-test-text]")).not_to_be_empty()
    expect(page.locator("#secret-test [data-test-note]")).not_to_be_empty()
    first = eventually(house.rows)[0]
    assert (first.status, first.streamed) == ("ok", True)
    assert first.charged_nano_usd > 0

    # The snippet's way: the official SDK with the shown key and base URL.
    page.get_by_role("link", name="I have saved it").click()
    expect(page.locator("body")).not_to_contain_text(key)
    client = house.client(gateway.url, key)
    got = client.chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    # Its row stands in the call log, and the drawer shows what it cost.
    page.goto(f"{console}calls/")
    expect(page.locator("tr[data-row]").filter(has_text=name).first).to_be_visible()
    page.goto(f"{console}calls/{got.headers['x-request-id']}/")
    expect(page.locator("body")).to_contain_text("$0.000018")

    # A budget of one cent, set in the browser, counts on the next call. The key is found by keyboard alone.
    page.keyboard.press("g")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{console}keys/")
    page.keyboard.press("/")
    expect(page.get_by_label("Search keys")).to_be_focused()
    page.get_by_label("Search keys").blur()
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_contain_text("Call log")
    page.locator("#shortcuts").get_by_label("Close").click()
    expect(page.locator("#shortcuts")).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(page.locator("#palette input")).to_be_focused()
    page.keyboard.type(name)
    expect(page.locator("[data-hit]").filter(has_text=name)).to_be_visible()
    expect(page.locator("[data-hit]").filter(has_text="Overview")).to_have_count(0)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Limits", exact=True).click()
    page.locator("#limits").get_by_label("Per month").fill("0.01")
    page.get_by_role("button", name="Save limits").click()
    expect(page.locator("body")).to_contain_text("$0.01")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=4000)
    told = refused.value.body
    assert isinstance(told, dict)
    assert told["gatehouse"]["code"] == "budget_exceeded"
    assert (told["gatehouse"]["level"], told["gatehouse"]["node"], told["gatehouse"]["limit"]) == ("key", name, "0.01")
    page.goto(f"{console}calls/?status=refused")
    expect(page.locator("tr[data-row]").filter(has_text=name).first).to_be_visible()

    # Disabled: refused from the next call on, by the worker that knew the key and by the other one.
    house.client(second_gateway.url, key).chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10)
    page.goto(f"{console}keys/")
    page.get_by_role("link", name=name).click()
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("body")).to_contain_text("Disabled")
    for url in (gateway.url, second_gateway.url):
        with pytest.raises(openai.AuthenticationError) as closed:
            house.client(url, key).chat.completions.create(model="scripted", messages=MESSAGES)
        assert closed.value.code == "key_disabled"
    assert console_errors == []


def test_a_key_made_with_a_budget_is_bound_by_it_at_once(page: Page, gateway: Gateway, house: House, mia: str) -> None:
    sign_in(page, gateway, mia)
    open_company(page, gateway, house)
    key = create_key(page, "Thrifty", budget="0.01")

    with pytest.raises(openai.PermissionDeniedError):
        house.client(gateway.url, key).chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=4000)


def test_a_form_keeps_what_was_typed_and_says_what_is_wrong(
    page: Page, console_errors: list[str], gateway: Gateway, house: House, mia: str
) -> None:
    sign_in(page, gateway, mia)
    console = open_company(page, gateway, house)
    page.goto(f"{console}keys/new/")
    page.get_by_label("Name").fill("Typo")
    page.locator("input[name=budget]").fill("ten dollars")
    page.get_by_role("button", name="Create key").click()

    expect(page.locator("body")).to_contain_text("Give an amount in US dollars")
    expect(page.get_by_label("Name")).to_have_value("Typo")
    expect(page.locator("input[name=budget]")).to_have_value("ten dollars")
    console_errors.clear()  # 422, as it should be


def test_no_page_scrolls_sideways_and_a_chart_moves_for_those_only_who_do_not_mind(
    page: Page, gateway: Gateway, house: House, mia: str
) -> None:
    house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)
    house.limit("budget", NANO)
    close_spend_buckets()
    sign_in(page, gateway, mia)
    console = open_company(page, gateway, house)
    for motion, moves in ((None, False), ("no-preference", True)):
        page.emulate_media(reduced_motion=motion)  # type: ignore[arg-type]
        page.goto(console)
        page.locator("[data-chart] svg").first.wait_for()
        drawn = "echarts.getInstanceByDom(document.querySelector('[data-chart]')).getOption().animation"
        assert page.evaluate(drawn) is moves
    for path in ("", "keys/", "keys/new/", f"keys/{house.key.pk}/", "calls/"):
        page.goto(f"{console}{path}")
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
