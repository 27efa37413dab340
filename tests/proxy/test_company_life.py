"""The life of a company, each person at a computer of their own: founded, people invited, calls, a limit, one who leaves."""

import re
import secrets
from collections.abc import Callable

import openai
import pytest
from playwright.sync_api import Page, expect

from billing import credits
from gateway_project.lib.money import NANO
from orgs.models import Organization, User
from tests.gateways import Gateway
from tests.house import MESSAGES, House
from tests.proxy.test_journey import PASSWORD, create_key


class Person:
    """At a browser, with an account that the browser itself makes. `console` is the company's address once known."""

    def __init__(self, page: Page, gateway: Gateway, name: str) -> None:
        self.page, self.gateway, self.name = page, gateway, name
        self.email = f"{name}.{secrets.token_hex(4)}@example.test"
        self.console = ""

    def sign_up(self) -> None:
        self.page.get_by_label(re.compile("E-?mail")).fill(self.email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_label("Password, once more").fill(PASSWORD)
        self.page.get_by_role("button", name="Create account").click()

    def found(self, company: str) -> None:
        self.page.goto(f"{self.gateway.url}/accounts/signup/")
        self.sign_up()
        expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()
        self.page.goto(f"{self.gateway.url}/organizations/new/")
        self.page.get_by_label("Name").fill(company)
        self.page.get_by_role("button", name="Create organisation").click()
        expect(self.page.locator("body")).to_contain_text(f"{company} is yours")
        self.remember_the_console()

    def join(self, link: str, company: str) -> None:
        """From the link alone: the account is made on the way."""
        self.page.goto(link)
        expect(self.page.get_by_role("heading", name=f"Join {company}")).to_be_visible()
        self.page.get_by_role("link", name="Create an account").click()
        self.sign_up()
        self.page.get_by_role("button", name=f"Join as {self.email}").click()
        expect(self.page.locator("body")).to_contain_text(f"Welcome to {company}")
        self.remember_the_console()

    def remember_the_console(self) -> None:
        found = re.match(r".*/o/[^/]+/", self.page.url)
        assert found, self.page.url
        self.console = found[0]

    def make_group(self, name: str, *, below: str) -> None:
        self.page.goto(f"{self.console}groups/new/")
        self.page.get_by_label("Name").fill(name)
        parent = self.page.get_by_label("Below")
        parent.select_option(parent.locator("option").filter(has_text=below).get_attribute("value"))
        self.page.get_by_role("button", name="group").click()
        expect(self.page.get_by_role("link", name=name, exact=True).first).to_be_visible()

    def invitation(self, path: str, *, role: str) -> str:
        """The link to a group of this path, such as "Engineering / Platform"."""
        self.page.goto(f"{self.console}invitations/link/")
        self.page.get_by_label("Group").select_option(label=path)
        self.page.get_by_label("Role").select_option(label=role)
        self.page.get_by_role("button", name="Make the link").click()
        shown = self.page.locator("#invitation-link")
        expect(shown).to_contain_text("/invite/")
        return shown.inner_text().strip()

    def make_key(self) -> str:
        return create_key(self.page, self.key_name)

    @property
    def key_name(self) -> str:
        return f"Key of {self.name}"


@pytest.fixture
def arrive(open_page: Callable[[], Page], gateway: Gateway) -> Callable[[str], Person]:
    return lambda name: Person(open_page(), gateway, name)


def call(house: House, person: Person, key: str, *, max_tokens: int = 100) -> None:
    house.client(person.gateway.url, key).chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=max_tokens)


def test_a_company_from_its_founding_to_the_first_who_leaves(arrive: Callable[[str], Person], house: House) -> None:
    company = f"Kiln {secrets.token_hex(3)}"
    olga = arrive("olga")
    olga.found(company)
    organization = Organization.objects.get(name=company)
    credits.top_up(organization, amount_nano_usd=100 * NANO, reference="test", by=User.objects.get(email=olga.email))
    olga.make_group("Engineering", below=company)
    olga.make_group("Platform", below="Engineering")
    olga.make_group("Gateway", below="Platform")

    # Each invites the next, as far as its own rights reach.
    lena, sam, mia = arrive("lena"), arrive("sam"), arrive("mia")
    lena.join(olga.invitation("Engineering", role="Admin"), company)
    sam.join(lena.invitation("Engineering / Platform", role="Admin"), company)
    mia.join(sam.invitation("Engineering / Platform / Gateway", role="Member"), company)

    keys = {person.name: person.make_key() for person in (olga, lena, sam, mia)}
    for person in (olga, lena, sam, mia):
        call(house, person, keys[person.name])

    # A limit that an admin above sets on the member's key bites on the member's next call, and on nobody else's.
    lena.page.goto(f"{lena.console}keys/")
    lena.page.get_by_role("link", name=mia.key_name).click()
    lena.page.get_by_role("link", name="Limits", exact=True).click()
    lena.page.locator("#limits").get_by_label("Per month").fill("0.01")
    lena.page.get_by_role("button", name="Save limits").click()
    expect(lena.page.locator("body")).to_contain_text("$0.01")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        call(house, mia, keys["mia"], max_tokens=4000)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["gatehouse"]["code"] == "budget_exceeded"
    call(house, sam, keys["sam"], max_tokens=4000)
    mia.page.goto(f"{mia.console}calls/?status=refused")
    expect(mia.page.locator("tr[data-row]").filter(has_text=mia.key_name).first).to_be_visible()

    # Removed by who invited her: her key is dead on the next call and the console is closed to her; others work on.
    sam.page.goto(f"{sam.console}members/")
    sam.page.get_by_role("link", name="mia").click()
    sam.page.get_by_role("link", name="Remove").click()
    sam.page.locator("#confirm").fill(mia.email)
    sam.page.get_by_role("button", name="Remove member").click()
    expect(sam.page).to_have_url(f"{sam.console}members/")
    with pytest.raises(openai.AuthenticationError):
        call(house, mia, keys["mia"])
    assert mia.page.request.get(f"{mia.console}keys/").status == 404
    call(house, sam, keys["sam"])
