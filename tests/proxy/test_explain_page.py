"""The explain page through a real gateway: the answer, the line that decides, and whose keys may be asked about."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qsl

import httpx
import openai
import pytest
from django.test import Client

from billing.models import UsageRecord
from gateway_project.lib.money import NANO
from orgs.models import User
from orgs.services.keys import disable_key
from tests.gateways import Gateway
from tests.house import MESSAGES, House, eventually


def page(gateway: Gateway, house: House, *, user: User | None = None, **question: Any) -> str:
    return get(gateway, house, "guardrails/explain/", user=user, **question)


def get(gateway: Gateway, house: House, path: str, *, user: User | None = None, **question: Any) -> str:
    client = Client()
    client.force_login(user or house.world.mia)
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    address = f"{gateway.url}/o/{house.organization.slug}/{path}"
    found = httpx.get(address, params=question, cookies=cookies, timeout=30, trust_env=False)
    assert found.status_code == 200
    return found.text


def test_it_begins_with_a_choice_of_the_keys_one_may_see(gateway: Gateway, house: House) -> None:
    assert house.key.public_id in page(gateway, house)
    assert house.key.public_id in page(gateway, house, user=house.world.sam)
    assert house.key.public_id not in page(gateway, house, user=house.world.noah)
    assert "Which key, and which call?" in page(gateway, house)
    assert 'placeholder="Name of a model"' in page(gateway, house)


def test_the_line_that_decides_is_marked_and_the_nodes_stand_in_order(gateway: Gateway, house: House) -> None:
    house.limit("budget", NANO // 1000, group=house.world.platform)
    house.limit("rpm", 60, window="minute")

    text = page(gateway, house, key=house.key.public_id, model="scripted", max_tokens=4000)

    assert "Refused: budget exceeded" in text
    assert text.count("an admin above this level can raise the limit") == 1
    assert text.count("is-deciding") == 1
    deciding = text[text.index("is-deciding") :]
    assert "Budget this month" in deciding[:1500]
    assert "Policy: budget month" in deciding[:2500]
    above = page(gateway, house, user=house.world.alice, key=house.key.public_id, model="scripted", max_tokens=4000)
    assert ">budget month</a>" in above
    assert ">You can raise it</a>." in above
    assert "can raise the limit" not in above
    nodes = re.findall(r'gh-path-node"><span class="text-secondary">(\w[\w ]*)</span> <strong>([^<]+)</strong>', text)
    assert [name for _, name in nodes][:4] == ["Mia&#x27;s key", "Mia", "gateway", "platform"]
    assert nodes[-1][0] == "Credit pool"


def test_a_sentence_that_has_its_full_stop_gets_no_second_one(gateway: Gateway, house: House) -> None:
    disable_key(house.key, by=house.world.actor("mia"))
    text = page(gateway, house, key=house.key.public_id, model="scripted")
    assert "can enable it in the console.</" in text or "can enable it in the console. <" in text
    assert "console.." not in text


@pytest.mark.parametrize("typed", ["gh_sk_{0}", "gh_sk_{0}…abcd", "gh_sk_{0}_secret", " {0} "])
def test_a_key_is_found_by_whatever_is_pasted_of_it(gateway: Gateway, house: House, typed: str) -> None:
    text = page(gateway, house, key=typed.format(house.key.public_id), model="scripted")
    assert "Passes" in text


def test_somebody_elses_key_is_as_unknown_as_none(gateway: Gateway, house: House) -> None:
    for typed in (house.key.public_id, "nothing-like-it"):
        assert "No such key" in page(gateway, house, user=house.world.noah, key=typed, model="scripted")


def test_what_was_typed_wrongly_is_said_beside_its_field(gateway: Gateway, house: House) -> None:
    text = page(gateway, house, key=house.key.public_id, model="scripted", address="somewhere")
    assert "valid IPv4 or IPv6 address" in text
    assert "gh-verdict" not in text


def test_a_shortened_call_says_to_what(gateway: Gateway, house: House) -> None:
    house.limit("budget", NANO // 100)
    text = page(gateway, house, key=house.key.public_id, model="scripted")
    assert "Passes, shortened" in text
    assert re.search(r"affords no more than 2,\d{3} output tokens", text)


@pytest.mark.parametrize("asked", [{"max_tokens": 4000}, {"max_tokens": 1400, "n": 3}, {}])
def test_a_refused_call_of_the_log_is_judged_again_as_it_was(gateway: Gateway, house: House, asked: dict[str, int]) -> None:
    house.limit("budget", NANO // (100 if asked else 10**6))
    with pytest.raises(openai.PermissionDeniedError):
        house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, **asked)  # type: ignore[call-overload]
    refused = eventually(lambda: UsageRecord.objects.filter(organization=house.organization).first())
    drawer = get(gateway, house, f"calls/{refused.call_id}/")

    link = re.search(r'href="[^"]*/guardrails/explain/\?([^"]*)">', drawer)

    assert link is not None
    question: dict[str, Any] = dict(parse_qsl(unescape(link[1])))
    text = page(gateway, house, **question)
    assert "Refused: budget exceeded" in text
    assumed = text[text.index("Not said, so assumed:") :].partition("</p>")[0]
    assert "input tokens" not in assumed
    assert ("no maximum" in assumed) is not bool(asked)


def test_what_nobody_has_said_of_the_call_is_said_to_be_assumed(gateway: Gateway, house: House) -> None:
    text = page(gateway, house, key=house.key.public_id, model="scripted")
    words = "it reads 1,000 input tokens, it sets no maximum of output tokens, it comes from 127.0.0.1."
    assert f"Not said, so assumed: {words}" in text
    told: dict[str, Any] = {"input_tokens": 0, "max_tokens": 5, "address": "127.0.0.1"}
    assert "Not said, so assumed" not in page(gateway, house, key=house.key.public_id, model="scripted", **told)
