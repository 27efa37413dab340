"""The playground: who may call with which key, that its calls are calls like any other, and how it behaves in a browser."""

from __future__ import annotations

import json
import re
import secrets
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from orgs.models import ApiKey, User
from orgs.services.changes import changing
from proxy.auto import LEANINGS
from proxy.models import Preset
from proxy.naming_services import create_alias
from tests.actors import World
from tests.gateways import Gateway
from tests.house import House, eventually
from tests.orgs.test_viewing import looking
from tests.upstream import Upstream, answer, frames, stream

BODY: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Tell me about the gate."}]}


class Person:
    """Somebody signed in, as the page's own script calls."""

    def __init__(self, gateway: Gateway, house: House, user: User) -> None:
        django = Client()
        django.force_login(user)
        self.session = django.cookies[settings.SESSION_COOKIE_NAME].value
        self.token = secrets.token_hex(16)
        self.gateway, self.organization = gateway, house.organization

    def call(self, key: ApiKey | int, body: Any = BODY, *, token: str | None = None, **headers: str) -> httpx.Response:
        key_id = key if isinstance(key, int) else key.pk
        url = reverse("playground:call", kwargs={"org": self.organization.slug, "key_id": key_id})
        given = {"x-csrftoken": self.token if token is None else token, **headers}
        cookies = {settings.SESSION_COOKIE_NAME: self.session, settings.CSRF_COOKIE_NAME: self.token}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(self.gateway.url + url, content=content, headers=given, cookies=cookies, timeout=30, trust_env=False)


@pytest.fixture
def mia(gateway: Gateway, house: House) -> Person:
    return Person(gateway, house, house.world.mia)


# --- who may call ------------------------------------------------------------------------------
def test_a_call_is_made_with_the_chosen_key_and_recorded_like_any_other(mia: Person, house: House, upstream: Upstream) -> None:
    upstream.then(answer("Hello", usage=(10, 2)))

    got = mia.call(house.key)

    assert (got.status_code, got.json()["choices"][0]["message"]["content"]) == (200, "Hello")
    assert got.headers["x-gatehouse-model"] == "scripted"
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.api_key_id, row.member_id, row.protocol) == (
        "ok",
        house.key.pk,
        house.world.mia.pk,
        "chat_completions",
    )
    assert row.charged_nano_usd == 18_000
    assert eventually(lambda: house.counter(f"k{house.key.pk}") == {"spent": 18_000, "held": 0})
    assert house.nothing_held()
    assert house.key_text not in str(upstream.received[-1].headers)


def test_calls_with_the_text_and_from_the_playground_share_their_counters(
    mia: Person, gateway: Gateway, house: House, upstream: Upstream
) -> None:
    house.limit("rpm", 2, window="minute")
    upstream.on("scripted", answer())
    house.client(gateway.url).chat.completions.create(model="scripted", messages=BODY["messages"])
    assert [mia.call(house.key).status_code for _ in range(2)] == [200, 429]


def test_a_stream_comes_as_events(mia: Person, house: House, upstream: Upstream) -> None:
    upstream.then(stream(*frames("Hello", "there")))

    got = mia.call(house.key, {**BODY, "stream": True})

    assert got.headers["content-type"].startswith("text/event-stream")
    assert b"Hello" in got.content
    assert got.content.endswith(b"data: [DONE]\n\n")
    assert house.row_of(got.headers["x-request-id"]).streamed


@pytest.mark.parametrize("token", ["", "0" * 32])
def test_a_forged_request_is_refused(mia: Person, house: House, token: str) -> None:
    assert mia.call(house.key, token=token).status_code == 403
    assert house.rows() == []


def test_a_request_from_another_site_is_refused(mia: Person, house: House) -> None:
    assert mia.call(house.key, origin="https://elsewhere.example").status_code == 403
    assert house.rows() == []


@pytest.mark.parametrize("name", ["alice", "lena", "sam", "noah", "charlie"])
def test_nobody_calls_with_another_members_key_whatever_they_manage(gateway: Gateway, house: House, name: str) -> None:
    other = Person(gateway, house, getattr(house.world, name))
    assert other.call(house.key).status_code == 404
    assert other.call(9_999_999).status_code == 404
    assert house.rows() == []


def test_the_keys_text_is_no_way_in(gateway: Gateway, house: House) -> None:
    stranger = Person(gateway, house, house.world.sam)
    assert stranger.call(house.key, authorization=f"Bearer {house.key_text}").status_code == 404


def test_without_a_session_there_is_only_the_login(gateway: Gateway, house: House, mia: Person) -> None:
    mia.session = "none"
    got = mia.call(house.key)
    assert (got.status_code, got.headers["location"].startswith("/accounts/login/")) == (302, True)


def test_a_service_key_is_nobodys_own(gateway: Gateway, house: House) -> None:
    key, _ = house.new_key(
        group=house.world.platform, member=None, application=house.world.assistant, by=house.world.sam, environment="production"
    )
    assert Person(gateway, house, house.world.sam).call(key).status_code == 404


def test_only_posts_are_calls(mia: Person, gateway: Gateway, house: House) -> None:
    url = reverse("playground:call", kwargs={"org": house.organization.slug, "key_id": house.key.pk})
    cookies = {settings.SESSION_COOKIE_NAME: mia.session}
    assert httpx.get(gateway.url + url, cookies=cookies, trust_env=False).status_code == 405


# --- what stands in the way ---------------------------------------------------------------------
def test_a_spent_budget_says_which_and_whom_to_ask(mia: Person, house: House) -> None:
    house.limit("budget", 1000)

    got = mia.call(house.key)

    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (403, "budget_exceeded")
    assert (error["gatehouse"]["level"], error["gatehouse"]["node"]) == ("key", "Mia's key")
    assert error["gatehouse"]["ask"]


@pytest.mark.parametrize(("change", "code"), [("disabled_at", "key_disabled"), ("expires_at", "key_expired")])
def test_a_key_that_no_longer_works_is_refused(mia: Person, house: House, upstream: Upstream, change: str, code: str) -> None:
    upstream.on("scripted", answer())
    key, _ = house.new_key()
    assert mia.call(key).status_code == 200

    with changing(house.organization):
        ApiKey.objects.filter(pk=key.pk).update(**{change: timezone.now() - timedelta(seconds=1)})

    got = mia.call(key)
    assert (got.status_code, got.json()["error"]["code"]) == (401, code)


def test_a_deleted_key_is_gone(mia: Person, house: House) -> None:
    key, _ = house.new_key()
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    assert mia.call(key).status_code == 404


def test_the_browsers_address_is_judged(mia: Person, house: House) -> None:
    house.policy(rules={"addresses": ["203.0.113.0/24"]})
    got = mia.call(house.key)
    assert (got.status_code, got.json()["error"]["code"]) == (403, "ip_not_allowed")
    assert "127.0.0.1" in got.json()["error"]["message"]


def test_a_key_of_several_features_names_one(mia: Person, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", answer())
    key, _ = house.new_key(
        group=house.world.gateway, application=house.world.assistant, environment="production", features=["chat", "search"]
    )
    got = mia.call(key, **{"x-gatehouse-feature": "search"})
    assert house.row_of(got.headers["x-request-id"]).feature == "search"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"scripted"}'])
def test_bad_input_is_told_in_the_protocols_shape(mia: Person, house: House, body: bytes) -> None:
    got = mia.call(house.key, body)
    assert (got.status_code, got.json()["error"]["type"]) == (400, "invalid_request_error")


# --- the page -----------------------------------------------------------------------------------
@pytest.fixture
def own(client: Client, house: House) -> Client:
    client.force_login(house.world.mia)
    return client


def page_of(house: House, **query: str) -> str:
    url = reverse("playground:page", kwargs={"org": house.organization.slug})
    return f"{url}?{'&'.join(f'{name}={value}' for name, value in query.items())}"


def offered(html: str) -> set[str]:
    return set(re.findall(r'<option value="([^"]+)" data-hint', html))


def test_the_page_offers_what_the_key_may_call(own: Client, house: House) -> None:
    house.policy(rules={"models": ["scripted", "pair"]})
    free, _ = house.new_key(name="Free")

    bound = offered(own.get(page_of(house, key=str(house.key.pk))).content.decode())
    open_ = offered(own.get(page_of(house, key=str(free.pk))).content.decode())

    assert bound == {"scripted", "pair", "auto", "auto:cheap", "auto:best"}
    assert open_ > {"scripted", "pair", "sandbox-instant"}


def test_presets_of_the_keys_groups_are_offered(own: Client, house: House) -> None:
    made = {"organization": house.organization, "model": "scripted", "created_by": house.world.alice}
    Preset.objects.create(name="terse", group=house.world.engineering, **made)
    Preset.objects.create(name="selling", group=house.world.sales, **made)
    names = offered(own.get(page_of(house)).content.decode())
    assert "preset:terse" in names
    assert "preset:selling" not in names


def test_a_name_whose_model_the_key_may_not_call_is_not_offered(own: Client, house: House) -> None:
    alice = house.world.actor("alice")
    for name, model in (("best", "pair"), ("good", "scripted"), ("any", "auto")):
        create_alias(house.world.root, name=name, model=model, by=alice)
    made = {"organization": house.organization, "group": house.world.root, "created_by": house.world.alice}
    for name, model in (("terse", "best"), ("kind", "good"), ("free", "auto:cheap")):
        Preset.objects.create(name=name, model=model, **made)
    assert offered(own.get(page_of(house)).content.decode()) >= {"best", "preset:terse"}

    house.policy(rules={"models": ["scripted"]})
    names = offered(own.get(page_of(house)).content.decode())
    assert names == {"scripted", "good", "any", "preset:kind", "preset:free", *LEANINGS}

    house.policy(rules={"models": ["no-such-model"]})
    assert "may talk to no model" in own.get(page_of(house)).content.decode()


def test_the_model_asked_for_is_chosen(own: Client, house: House) -> None:
    html = own.get(page_of(house, model="pair")).content.decode()
    assert re.search(r'<option value="pair"[^>]* selected', html)


def test_without_a_key_the_page_says_how_to_make_one(client: Client, world: World) -> None:
    client.force_login(world.noah)
    html = client.get(reverse("playground:page", kwargs={"org": world.acme.slug})).content.decode()
    assert "You have no key yet" in html
    assert reverse("guardrails:new_key", kwargs={"org": world.acme.slug}) in html


def test_where_no_key_works_the_page_says_so(client: Client, world: World) -> None:
    ApiKey.objects.filter(pk=world.key.pk).update(disabled_at=timezone.now())
    client.force_login(world.mia)
    html = client.get(reverse("playground:page", kwargs={"org": world.acme.slug})).content.decode()
    assert "None of your keys works" in html


def test_where_a_key_may_call_nothing_the_page_says_so(own: Client, house: House) -> None:
    house.policy(rules={"models": ["no-such-model"]})
    free, _ = house.new_key(name="Free")
    page = own.get(page_of(house, key=str(house.key.pk))).content.decode()
    assert "may talk to no model" in page
    assert reverse("guardrails:limits", kwargs={"org": house.organization.slug, "key_id": house.key.pk}) in page
    assert f'href="?key={free.pk}"' in page
    assert f'href="?key={house.key.pk}"' not in page


def test_who_looks_as_the_keys_member_is_told_that_nothing_is_sent(client: Client, house: House) -> None:
    key_page = reverse("guardrails:key", kwargs={"org": house.organization.slug, "key_id": house.key.pk})
    client.force_login(house.world.mia)
    assert re.search(r"data-play-send>", client.get(page_of(house)).content.decode())
    assert page_of(house) in client.get(key_page).content.decode()

    looking_as_mia = looking(house.world, "alice", "mia")
    html = looking_as_mia.get(page_of(house)).content.decode()
    assert re.search(r"data-play-hint>You only look as Mia: nothing is sent\.", html)
    assert re.search(r"<textarea [^>]* disabled [^>]*data-play-message>", html)
    assert re.search(r"<button [^>]* disabled [^>]*data-play-send>", html)
    assert f"{page_of(house)}key=" not in looking_as_mia.get(key_page).content.decode()
    assert "disable it first" not in looking_as_mia.get(key_page).content.decode()


def test_other_peoples_keys_are_not_offered(client: Client, house: House) -> None:
    client.force_login(house.world.alice)
    assert "Mia" not in client.get(page_of(house, key=str(house.key.pk))).content.decode()


def test_the_outcome_is_for_who_called(mia: Person, client: Client, house: House, upstream: Upstream) -> None:
    upstream.then(answer("Hello", usage=(10, 2)))
    call_id = mia.call(house.key).headers["x-request-id"]
    house.row_of(call_id)
    url = reverse("playground:outcome", kwargs={"org": house.organization.slug, "call_id": call_id})

    client.force_login(house.world.mia)
    html = client.get(url).content.decode()
    assert ("$0.000018" in html, "10 in, 2 out" in html, f"calls/{call_id}/" in html) == (True, True, True)

    client.force_login(house.world.alice)
    assert client.get(url).status_code == 204


# --- in a browser -------------------------------------------------------------------------------
def open_page(page: Page, gateway: Gateway, house: House, person: Person) -> None:
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": person.session, "url": gateway.url}])
    page.goto(gateway.url + page_of(house, model="scripted"))


def test_a_conversation_streams_stops_goes_on_and_becomes_code(
    page: Page, console_errors: list[str], gateway: Gateway, house: House, mia: Person, upstream: Upstream
) -> None:
    open_page(page, gateway, house, mia)
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")

    # An answer that comes in pieces: what is there is shown, and leaving it is hanging up.
    upstream.then(stream(*frames("It stands ", "open.")[:2], 60.0))
    page.get_by_label("Message", exact=True).fill("Is the gate open?")
    page.keyboard.press("Enter")
    expect(page.locator(".gh-turn[data-role=assistant]")).to_contain_text("It stands")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".gh-outcome")).to_contain_text("Caller hung up")
    assert upstream.received[-1].gone.wait(5)
    sent = upstream.received[-1].json
    assert (sent["messages"][0], sent["temperature"]) == ({"role": "system", "content": "Be brief."}, 0.5)
    assert house.nothing_held()

    # The next question has the conversation so far, and ends with what it cost.
    upstream.then(stream(*frames("All ", "day.")))
    page.get_by_label("Message", exact=True).fill("How long?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".gh-turn").last).to_contain_text("All day.")
    expect(page.locator(".gh-outcome").last.get_by_role("link", name="In the call log")).to_be_visible()
    assert [one["role"] for one in upstream.received[-1].json["messages"]] == ["system", "user", "assistant", "user"]

    page.get_by_role("tab", name="Get code").click()
    snippet = page.locator("#play-snippet")
    expect(snippet).to_contain_text("curl")
    for language, words in {
        "Python, OpenAI SDK": "client.chat.completions.create(",
        "TypeScript, OpenAI SDK": "await client.chat.completions.create({",
        "Python, Anthropic SDK": "client.messages.create(",
        "TypeScript, Anthropic SDK": "await client.messages.create({",
    }.items():
        page.get_by_label("Language").select_option(language)
        expect(snippet).to_contain_text(words)
        expect(snippet).to_contain_text("Be brief.")
        expect(snippet).to_contain_text("How long?")
        expect(snippet).not_to_contain_text("All day.")  # the answer is no part of the call it came from

    # A refusal says what stands in the way, and gives the question back.
    house.limit("budget", 1)
    page.get_by_role("tab", name="Chat").click()
    page.get_by_label("Message", exact=True).fill("And tomorrow?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("can raise the limit")
    expect(page.get_by_label("Message", exact=True)).to_have_value("And tomorrow?")
    console_errors.clear()  # 403, as it should be

    assert eventually(lambda: [row.status for row in house.rows()] == ["cancelled", "ok", "refused"])
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_snippets_are_programs(
    page: Page, gateway: Gateway, house: House, mia: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(page, gateway, house, mia)
    written = 'It\'s "quoted" \\ and\nsplit – ☂'
    python = page.evaluate(
        """(content) => window.gatehouseCode.openaiPython({
            model: "m", system: "", messages: [{ role: "user", content }], feature: "chat", baseUrl: "http://x/v1", maxTokens: 5
        })""",
        written,
    )
    called: dict[str, Any] = {}

    class Stop(Exception):
        pass

    class OpenAI:
        def __init__(self, **options: Any) -> None:
            called.update(options)
            self.chat = self.completions = self

        def create(self, **arguments: Any) -> None:
            called.update(arguments)
            raise Stop

    program = compile(python.replace("from openai import OpenAI\n", ""), "snippet", "exec")
    monkeypatch.setenv("GATEHOUSE_API_KEY", "gh_sk_x")
    with pytest.raises(Stop):
        exec(program, {"OpenAI": OpenAI})  # noqa: S102 - the snippet is what is tested
    assert called["messages"] == [{"role": "user", "content": written}]
    assert (called["max_completion_tokens"], called["api_key"]) == (5, "gh_sk_x")
    assert called["default_headers"] == {"x-gatehouse-feature": "chat"}
