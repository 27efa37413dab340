"""The page "Which route would win?" through a real gateway: what it says, whose keys it takes, and that nothing comes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx
import msgspec
import openai
import pytest
from django.test import Client

from billing.pricing import Rates
from gateway_project.lib import redis
from orgs.models import User
from orgs.services.changes import changing
from proxy.choice_services import add_candidate
from proxy.errors import BadRequest
from proxy.naming_services import PresetWords, create_alias, create_preset
from proxy.route_asking import body_of
from tests.gateways import Gateway
from tests.house import DOLLAR_PER_MILLION, MESSAGES, House, eventually, reprice
from tests.upstream import Upstream, answer

CANARY = "a-canary-that-is-told-to-nobody"


@pytest.fixture(autouse=True)
def _models(house: House, upstream: Upstream) -> Iterator[None]:
    reprice("small", Rates(input=DOLLAR_PER_MILLION // 10, output=DOLLAR_PER_MILLION // 10))
    reprice("large", Rates(input=10 * DOLLAR_PER_MILLION, output=10 * DOLLAR_PER_MILLION))
    yield
    upstream.forget()


def ask(gateway: Gateway, house: House, *, user: User | None = None, **fields: Any) -> httpx.Response:
    client = Client()
    client.force_login(user or house.world.mia)
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    address = f"{gateway.url}/o/{house.organization.slug}/routing/which/"
    with httpx.Client(cookies=cookies, timeout=30, trust_env=False) as browser:
        page = browser.get(address)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        if not fields:
            return page
        assert token
        return browser.post(address, data={"csrfmiddlewaretoken": token[1], **fields}, headers={"referer": address})


def told(gateway: Gateway, house: House, body: str, *, model: str = "", **options: Any) -> str:
    found = ask(gateway, house, key=house.key.public_id, model=model, body=body, **options)
    assert found.status_code == 200, found.text[:2000]
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found.text)))


def test_a_prompt_and_a_model_are_enough(gateway: Gateway, house: House) -> None:
    text = told(gateway, house, "Tell me about the gate.", model="pair")
    assert "pair at scripted" in text
    assert text.index("scripted pair") < text.index("second pair-second")
    assert "Costs at worst" in text
    assert "by lot" not in text, "they stand in an order"
    assert "4,096 tokens" in text


def test_names_are_followed_to_the_model(gateway: Gateway, house: House) -> None:
    alice = house.world.actor("alice")
    create_alias(house.world.root, name="ours", model="large", by=alice)
    words = PresetWords("ours", system_prompt="Be polite.")
    create_preset(house.world.platform, name="polite", words=words, by=alice)
    body = msgspec.json.encode({"model": "preset:polite", "messages": MESSAGES}).decode()
    text = told(gateway, house, body)
    assert "Preset polite goes to ours" in text
    assert "Alias ours stands for large" in text
    assert "large at scripted" in text


def test_what_auto_would_choose_is_said_with_the_need_and_the_others(gateway: Gateway, house: House) -> None:
    for name in ("small", "large", "dead"):
        add_candidate(name, by=house.world.actor("alice"))
    house.policy(rules={"blocked_models": ["dead"]})
    text = told(gateway, house, "Hello", model="auto:cheap")
    assert "auto:cheap chose small" in text
    assert "Need of a strong model" in text
    assert "large dearer than the request needs" in text
    assert "dead not allowed to this key" in text


@pytest.mark.parametrize(
    ("model", "words"), [("nothing-like-it", "Refused: model not found"), ("preset:none", "Refused: model not found")]
)
def test_what_would_be_refused_is_said_to_be(gateway: Gateway, house: House, model: str, words: str) -> None:
    assert words in told(gateway, house, "Hello", model=model)


def test_rules_are_those_of_the_key(gateway: Gateway, house: House) -> None:
    house.policy(rules={"blocked_models": ["large"]})
    assert "Refused: model not allowed" in told(gateway, house, "Hello", model="large")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"body": "Hello"}, "Name a model"),
        ({"body": "{", "model": "pair"}, "not valid JSON"),
        ({"body": '{"messages": 5}', "model": "pair"}, "messages"),
        ({"body": "", "model": "pair"}, "This field is required"),
    ],
)
def test_what_is_no_request_is_sent_back(gateway: Gateway, house: House, fields: dict[str, str], words: str) -> None:
    found = ask(gateway, house, user=house.world.mia, key=house.key.public_id, **fields)
    assert words in found.text
    assert "gh-verdict" not in found.text


def test_somebody_elses_key_is_as_unknown_as_none(gateway: Gateway, house: House) -> None:
    found = ask(gateway, house, user=house.world.noah, key=house.key.public_id, model="pair", body="Hello")
    assert found.status_code == 422
    assert "No such key" in found.text
    assert house.key.public_id in ask(gateway, house, user=house.world.sam).text


def test_nothing_is_sent_held_counted_stored_or_logged(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.limit("budget", DOLLAR_PER_MILLION)
    upstream.on("pair", answer("Hello", usage=(10, 2)))
    called = house.client(gateway.url).chat.completions.with_raw_response.create(model="pair", messages=MESSAGES)
    house.row_of(called.headers["x-request-id"])
    assert house.nothing_held()
    subject = f"key:{house.key.pk}"
    before, sent = house.counter(subject), len(upstream.received)

    assert "pair at scripted" in told(gateway, house, CANARY, model="pair")
    broken = ask(gateway, house, key=house.key.public_id, model="pair", body=f'{{"messages": "{CANARY}"}}')
    assert broken.status_code == 422

    assert len(upstream.received) == sent
    assert len(house.rows()) == 1
    assert not house.held()
    assert house.counter(subject) == before
    assert CANARY not in gateway.log.read_text()
    names = [name.decode() for name in redis.client().scan_iter(count=1000)]
    assert not any(CANARY in name for name in names)


def test_the_explanation_of_limits_follows_names_too(gateway: Gateway, house: House) -> None:
    create_alias(house.world.root, name="ours", model="large", by=house.world.actor("alice"))
    house.policy(rules={"blocked_models": ["large"]})
    key = {"authorization": f"Bearer {house.key_text}"}
    asked = {"model": "ours", "input_tokens": "10"}
    found = httpx.get(f"{gateway.url}/api/v1/explain", params=asked, headers=key, timeout=30, trust_env=False)
    assert "model_not_allowed" in found.text


# --- the list of models ---------------------------------------------------------------------------


def test_the_list_of_models_has_the_names_that_stand_for_them(gateway: Gateway, house: House) -> None:
    alice = house.world.actor("alice")
    create_alias(house.world.root, name="Ours", model="large", by=alice)
    create_alias(house.world.root, name="blocked", model="dead", by=alice)
    create_alias(house.world.sales, name="theirs", model="large", by=alice)
    create_preset(house.world.platform, name="polite", words=PresetWords("ours"), by=alice)
    create_preset(house.world.platform, name="clever", words=PresetWords("auto:best"), by=alice)
    house.policy(rules={"blocked_models": ["dead"]})

    client = house.client(gateway.url)
    found = {model.id: model for model in client.models.list()}

    owners = {
        name: found[name].owned_by for name in ("ours", "auto", "auto:cheap", "auto:best", "preset:polite", "preset:clever")
    }
    assert owners == {
        "ours": "alias", "auto": "auto", "auto:cheap": "auto", "auto:best": "auto",
        "preset:polite": "preset", "preset:clever": "preset",
    }  # fmt: skip
    assert found.keys().isdisjoint({"blocked", "theirs", "dead"})
    first = min(model.created for model in found.values() if not model.owned_by.startswith(("auto", "preset", "alias")))
    assert found["auto"].created == found["preset:clever"].created == first > 0
    facts = found["preset:polite"].model_extra or {}
    assert (facts["context_window"], facts["pricing"]) == (128_000, (found["large"].model_extra or {})["pricing"])
    assert client.models.retrieve("preset:polite").owned_by == "preset"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("theirs")


def test_a_name_that_was_taken_away_is_gone_from_the_list(gateway: Gateway, house: House) -> None:
    from proxy.models import Alias

    create_alias(house.world.root, name="ours", model="large", by=house.world.actor("alice"))
    client = house.client(gateway.url)
    assert "ours" in {model.id for model in client.models.list()}
    with changing(house.organization):
        Alias.objects.filter(organization=house.organization).delete()
    assert eventually(lambda: "ours" not in {model.id for model in client.models.list()})


# --- what is pasted -------------------------------------------------------------------------------


def test_the_body_is_what_was_pasted_with_the_model_that_was_typed() -> None:
    assert msgspec.json.decode(body_of(" Hello ", model="m")) == {
        "messages": [{"role": "user", "content": " Hello "}],
        "model": "m",
    }
    pasted = '{"model": "a", "messages": [], "seed": 18446744073709551617}'
    assert body_of(pasted, model="") == b'{"model":"a","messages":[],"seed":18446744073709551617}'
    assert msgspec.json.decode(body_of(pasted, model="b"))["model"] == "b"
    with pytest.raises(BadRequest):
        body_of("Hello", model="")
